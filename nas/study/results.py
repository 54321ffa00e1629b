"""What a finished study writes by itself, and where. No torch, no optuna."""

from pathlib import Path

from nas.documents import read_document
from nas.errors import UserError
from nas.file_names import earlier_place, file_name

BEST, REPORT = "best.yaml", "report.html"
"""Written by the end of a search, and renewed by the next."""
TIMM, FRONT, SLURM = "timm", "front", "slurm"
"""Folders that commands offer to write there, and that of the jobs of a cluster."""


def results_folder(parent: Path, study_name: str) -> Path:
    """The folder of a study's results: where an earlier version wrote them, if they are this study's."""
    earlier = earlier_place(parent, study_name)
    return earlier if earlier is not None and owner_of(earlier) == study_name else parent / file_name(study_name)


def owner_of(folder: Path) -> str | None:
    """The study whose results a folder holds, None where it holds none."""
    try:
        content = read_document(folder / BEST)
    except UserError:
        return None
    provenance = content.get("provenance") if isinstance(content, dict) else None
    owner = provenance.get("study") if isinstance(provenance, dict) else None
    return owner if isinstance(owner, str) else None
