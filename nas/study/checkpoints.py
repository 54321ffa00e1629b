"""Where the checkpoints of a study lie, and which of them are kept."""

import re
from pathlib import Path

from nas.study.records import TrialRecord, best_of, landmark_of
from nas.study.storage import sqlite_path

DEFAULT_FOLDER = Path("studies/checkpoints")
"""For databases on a server; it must be shared by the machines if a trial is to go on elsewhere."""


class CheckpointFolder:
    """One file a trial: written after each epoch, removed when the trial has ended unless it is to be kept."""

    def __init__(self, url: str, study_name: str, root: Path | None = None) -> None:
        database = sqlite_path(url)
        root = root or (database.parent / "checkpoints" if database else DEFAULT_FOLDER)
        self.folder = root / re.sub(r"[^\w.-]", "_", study_name)

    def path(self, number: int) -> Path:
        """The file of a trial, whether it exists or not."""
        return self.folder / f"trial-{number}.ckpt"

    def remove_done(self, trials: tuple[TrialRecord, ...]) -> int:
        """Remove what ended trials left, but keep the best trial's and the plain network's for export.

        Returns how many files were removed.
        """
        kept = {record.number for record in (best_of(trials), landmark_of(trials, "plain")) if record}
        done = [t.number for t in trials if t.state in ("complete", "pruned", "fail") and t.number not in kept]
        left = [self.path(number) for number in done if self.path(number).exists()]
        for path in left:
            path.unlink(missing_ok=True)  # another worker may clean at the same time
        return len(left)
