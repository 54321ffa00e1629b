"""Where the checkpoints of a study lie, and which of them are kept."""

import re
from collections.abc import Iterable
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from nas.study.storage import sqlite_path

LANDMARK_ATTR = "landmark"
"""Attribute of an Optuna trial that trains a landmark: its name."""

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

    def remove_done(self, trials: Iterable[FrozenTrial]) -> int:
        """Remove what ended trials left, but keep the best trial's and the plain network's for export.

        Returns how many files were removed.
        """
        by_number = {trial.number: trial for trial in trials}
        complete = [t for t in by_number.values() if t.state == TrialState.COMPLETE]
        best = max(complete, key=lambda t: (t.value, -t.number), default=None)
        removed = 0
        for path in self.folder.glob("trial-*.ckpt"):
            trial = by_number.get(int(path.stem.removeprefix("trial-")))
            kept = trial is best or (trial is not None and trial.user_attrs.get(LANDMARK_ATTR) == "plain")
            if trial is not None and trial.state.is_finished() and not kept:
                path.unlink(missing_ok=True)  # another worker may clean at the same time
                removed += 1
        return removed
