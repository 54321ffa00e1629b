"""Removing a study with all that belongs to it: its rows, its companions, its checkpoints and its results."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nas.errors import NasError, UserError
from nas.study.calibration.task import stored_task
from nas.study.companions import CALIBRATION, CONFIRM, parent_of
from nas.study.results import BEST, FRONT, REPORT, SLURM, TIMM, owner_of, results_folder
from nas.study.run.checkpoints import checkpoint_folder
from nas.study.store.errors import explained
from nas.study.store.hints import command_line
from nas.study.store.lock import making_studies
from nas.study.store.optuna_storage import close_storage, open_storage
from nas.study.store.reader import open_study
from nas.study.store.studies import StoredStudy, living_workers, remove_studies, stored_studies
from nas.study.store.urls import redact, results_parent


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What goes with a study."""

    url: str
    name: str
    studies: tuple[StoredStudy, ...]
    """The study itself, where more than companions is left of it, and its companions."""
    checkpoints: tuple[Path, ...]
    """Folders."""
    results: tuple[Path, ...]
    """Files and folders that were written for the study; what else lies beside them stays."""


def plan_removal(url: str, name: str) -> Removal:
    """What would be removed; nothing is.

    Raises:
        UserError: there is no such study, it works for another one, or workers live.
    """
    known = stored_studies(url)
    studies = tuple(study for study in known if name in (study.name, study.parent))
    if not studies:
        names = ", ".join(study.name for study in known if study.parent is None) or "none"
        raise UserError(f"{redact(url)}: no study named {name!r}; studies: {names}")
    _check_alone(url, name, known)
    if living := living_workers(url, [study.study_id for study in studies]):
        more = f" and {len(living) - 1} more" if len(living) > 1 else ""
        raise UserError(f"study {name!r}: worker {living[0]}{more} may still write to it; stop it first")
    folders = (checkpoint_folder(url, study.name, study.created_at) for study in studies)
    return Removal(
        url=url,
        name=name,
        studies=studies,
        checkpoints=tuple(folder for folder in folders if folder.is_dir()),
        results=_results_of(url, name),
    )


def _check_alone(url: str, name: str, known: Iterable[StoredStudy]) -> None:
    """Refuse a companion without which its parent could not go on as it was begun."""
    by_name = {study.name: study for study in known}
    parent = parent_of(name)
    if parent not in by_name or (name.startswith(f"{parent}{CONFIRM}") and not by_name[name].whole):
        return
    both = command_line("delete", parent, url=url)
    raise UserError(f"study {name!r} works for the study {parent!r} and goes with it: {both}")


def _results_of(url: str, name: str) -> tuple[Path, ...]:
    folder = results_folder(results_parent(url), name)
    if owner_of(folder) != name:  # a folder that only has the study's name
        return ()
    return tuple(path for path in (folder / part for part in (REPORT, TIMM, FRONT, SLURM, BEST)) if path.exists())


def remove(removal: Removal) -> None:
    """Remove what was planned, files first: what a crash leaves can be removed by another call.

    Raises:
        UserError: workers have joined meanwhile.
        NasError: a file cannot be removed.
    """
    with making_studies(removal.url), explained(removal.url):
        plan_removal(removal.url, removal.name)
        for path in (*removal.checkpoints, *removal.results):
            _remove_path(path)
        for folder in {path.parent for path in removal.results}:
            if not any(folder.iterdir()):
                folder.rmdir()
        storage = open_storage(removal.url)
        try:
            remove_studies(storage, removal.studies, _tasks_left_behind(removal))
        finally:
            close_storage(storage)


def _tasks_left_behind(removal: Removal) -> set[str]:
    """Digests of the calibrations of which none stays; studies with equal settings and data share their results."""
    going: set[str] = set()
    staying: set[str] = set()
    ids = {study.study_id for study in removal.studies}
    for study in stored_studies(removal.url):
        if study.whole and study.parent is not None and study.name.startswith(study.parent + CALIBRATION):
            task = stored_task(open_study(removal.url, study.name)).digest
            (going if study.study_id in ids else staying).add(task)
    return going - staying


def _remove_path(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise NasError(f"{path}: cannot be removed: {error.strerror}") from None
