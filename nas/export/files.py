"""Architecture files from stored trials."""

from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.study.records import Study, TrialRecord

FORMATS = {"yaml": (".yaml", ".yml"), "json": (".json",)}


def chosen_trial(study: Study, which: str) -> TrialRecord:
    """The trial that ``best`` or a number names; it must own an architecture."""
    if which == "best":
        record = study.best()
        if record is None:
            raise UserError(f"study {study.name!r} has no complete trial yet; `nas status` tells how far it is")
        return record
    if not which.isdigit():
        raise UserError(f"--trial: expected best or the number of a trial, got {which!r}")
    record = study.trial(int(which))
    if record.architecture is None:
        raise UserError(f"trial {which} of study {study.name!r} has no architecture yet: it is {record.state}")
    return record


def export_architecture(study: Study, which: str, path: Path, format_: str | None) -> TrialRecord:
    """Write the canonical architecture of a trial with its provenance; returns the trial."""
    endings = [ending for name, known in FORMATS.items() if format_ in (None, name) for ending in known]
    if path.suffix not in endings:
        raise UserError(f"{path}: expected a file name that ends in {' or '.join(endings)}")
    record = chosen_trial(study, which)
    if record.architecture is None:
        raise UserError(f"trial {which} of study {study.name!r} has no architecture yet")
    record.architecture.canonical().save(path, provenance_of(study, record))
    return record


def provenance_of(study: Study, record: TrialRecord) -> dict[str, Any]:
    """Where an architecture comes from and what was measured of it."""
    plain = next((t for t in study.trials() if t.landmark == "plain"), None)
    return {
        "study": study.name,
        "trial": record.number,
        "state": record.state,
        "val_accuracy": record.score,
        "val_accuracy_of_plain": plain.score if plain else None,
        "num_val": study.num_val,
        "seed": record.seed,
        "epochs": record.budget,
        "num_params": record.num_params,
        "macs": record.macs,
        "data": study.config["data"]["source"],
        "data_fingerprint": study.data["fingerprint"],
        "packages": study.provenance["packages"],
    }
