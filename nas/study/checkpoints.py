"""Where the checkpoints of a study lie, and which of them are kept."""

import os
from collections.abc import Iterable
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from nas.study.records import Study
from nas.study.storage import sqlite_path

LANDMARK_ATTR = "landmark"
"""Attribute of an Optuna trial that trains a landmark: its name."""

ROOT_VARIABLE = "FUSION_NAS_CHECKPOINTS"
"""Environment variable that names the folder of all checkpoints."""
DEFAULT_ROOT = Path("studies/checkpoints")
"""For databases on a server; machines must share the folder if a trial is to go on elsewhere from its checkpoint."""


def checkpoint_root(url: str) -> Path:
    """The folder of the environment variable, else the one beside an SQLite database."""
    root, database = os.environ.get(ROOT_VARIABLE), sqlite_path(url)
    if root:
        return Path(root)
    return database.parent / "checkpoints" if database else DEFAULT_ROOT


class CheckpointFolder:
    """One file a trial: written after each epoch, removed when the trial has ended unless it is to be kept.

    Two studies of one name do not share files: the moment of a study's creation is part of its folder's name.
    """

    def __init__(self, study: Study) -> None:
        self.folder = checkpoint_root(study.url) / f"{study.file_name}-{round(study.created_at * 1000):x}"

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
