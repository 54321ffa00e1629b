"""Where the checkpoints of a study lie, and which of them are kept."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nas.file_names import earlier_place, file_name
from nas.study.store.reader import Study
from nas.study.store.rights import give_rights_of
from nas.study.store.urls import sqlite_path

LANDMARK_ATTR = "landmark"
"""Attribute of an Optuna trial that trains a landmark: its name."""

ROOT_VARIABLE = "FUSION_NAS_CHECKPOINTS"
"""Environment variable that names the folder of all checkpoints."""
DEFAULT_ROOT = Path("studies/checkpoints")
"""For databases on a server; machines must share the folder if a trial is to go on elsewhere from its checkpoint."""

KEEPS_KEY = "confirmed_keeps_weights"
"""Where the provenance of a confirmation's companion study says whether it keeps its networks' weights."""

FILE_NAME = re.compile(r"trial-(?P<number>\d+)\.ckpt|\.trial-(?P<half>\d+)\.ckpt\..+")


def checkpoint_root(url: str) -> Path:
    """The folder of the environment variable, else the one beside an SQLite database."""
    root, database = os.environ.get(ROOT_VARIABLE), sqlite_path(url)
    if root:
        return Path(root)
    return database.parent / "checkpoints" if database else DEFAULT_ROOT


def make_checkpoint_folder(folder: Path, url: str) -> None:
    """Make a folder for checkpoints, with the rights of an SQLite database: all who work on a study share them.

    The checkpoints take the rights of their folder. Those who may read the database may look into it.
    """
    database = sqlite_path(url)
    for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        missing.mkdir(exist_ok=True)
        if database is not None and database.exists():
            give_rights_of(database, missing)


def checkpoint_folder(url: str, study_name: str, created_at: float) -> Path:
    """The folder of a study's checkpoints; those that an earlier version has begun stay where they are.

    Two studies of one name do not share files: the moment of a study's creation is part of its folder's name.
    """
    root, ending = checkpoint_root(url), f"-{round(created_at * 1000):x}"
    return earlier_place(root, study_name, ending) or root / f"{file_name(study_name)}{ending}"


@dataclass(frozen=True)
class Needed:
    """Numbers of trials whose files may not go."""

    running: frozenset[int]
    """A half-written file may become a checkpoint yet."""
    checkpoints: frozenset[int]
    """Trials that have not ended or may yet go on, and what can be exported: the best, the front, the plain network."""


class FileOwner(NamedTuple):
    """A trial, and what decides about its files."""

    number: int
    state: str
    """complete, pruned, running, waiting or fail."""
    values: tuple[float, ...]
    """Of the objectives; none where the trial is not complete or breaks a constraint."""
    landmark: str | None
    paused: bool
    """Whether a rung has stopped it."""


def needed(study: Study, trials: Iterable[FileOwner], *, over: bool) -> Needed:
    """What the trials of a study need. Of a confirmation, one seed keeps all networks; others, and calibrations, none.

    Args:
        over: whether no trial will be trained any more, also none that a rung has stopped.
    """
    every = tuple(trials)
    if study.calibrates is not None:
        kept = set()
    elif study.confirms is None:
        kept = _front(study, every) | {t.number for t in every if t.landmark == "plain"}
    else:
        kept = {t.number for t in every if t.state == "complete" and study.provenance[KEEPS_KEY]}
    kept |= {t.number for t in every if t.state in ("running", "waiting")}
    if not over:
        kept |= {t.number for t in every if t.paused and t.state == "pruned"}
    return Needed(
        running=frozenset(t.number for t in every if t.state == "running"),
        checkpoints=frozenset(kept),
    )


def _front(study: Study, every: Sequence[FileOwner]) -> set[int]:
    """The trials that none dominates; with one objective the first of the best."""
    goals = study.settings.goals
    able = [t for t in sorted(every, key=lambda t: t.number) if t.state == "complete" and t.values]
    if not goals.several:
        best = max(able, key=lambda t: goals.merit(t.values[0]), default=None)
        return {best.number} if best else set()
    from nas.study.pareto import front

    return {able[i].number for i in front(goals, [t.values for t in able])}


class CheckpointFolder:
    """One file a trial: written while it trains, removed when the trial has ended unless it is to be kept."""

    def __init__(self, study: Study) -> None:
        self._url = study.url
        self.folder = checkpoint_folder(study.url, study.name, study.created_at)

    def path(self, number: int) -> Path:
        """The file of a trial, whether it exists or not."""
        return self.folder / f"trial-{number}.ckpt"

    def place(self, number: int) -> Path:
        """The file of a trial that is about to be written, in a folder that exists."""
        make_checkpoint_folder(self.folder, self._url)
        return self.path(number)

    def files(self) -> dict[Path, int]:
        """Every file with the number of its trial: checkpoints, and what is being or was half written."""
        found = ((path, FILE_NAME.fullmatch(path.name)) for path in self.folder.glob("*"))
        return {path: int(match["number"] or match["half"]) for path, match in found if match}

    def orphans(self, files: Mapping[Path, int], wanted: Needed) -> list[Path]:
        """Those of ``files``, listed before the trials were read, that no trial needs."""
        return sorted(
            path
            for path, number in files.items()
            if number not in (wanted.running if path.name.startswith(".") else wanted.checkpoints)
        )

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove files; returns how many. Another worker may do the same at the same time."""
        count = 0
        for path in paths:
            path.unlink(missing_ok=True)
            count += 1
        return count


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of files and folders."""
    files = (file for path in paths for file in (path.rglob("*") if path.is_dir() else (path,)))
    return sum(file.stat().st_size for file in files if file.is_file())
