"""Mending a study: trials of dead workers, the database's own checks, files that nobody needs."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from nas.study.doctor import Health, examine, orphans_of
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.store.backup import check_database
from nas.study.store.errors import explained
from nas.study.store.optuna_storage import close_storage, open_storage
from nas.study.store.reader import Study
from nas.study.store.studies import begin_anew
from nas.study.store.sweep import sweep


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What `recover` found and did."""

    found: Health
    """Before anything was done."""
    put_back: int
    """Trials that wait again."""
    removed_checkpoints: int
    """Files that no trial needed."""
    integrity: str
    """`ok`, or what is wrong with the database."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``; the fields are stable."""
        return {
            "put_back": self.put_back,
            "removed_checkpoints": self.removed_checkpoints,
            "integrity": self.integrity,
            **self.found.to_dict(),
        }


def recover(study: Study) -> Recovery:
    """Free the trials of dead workers, check database and checkpoints, remove files that nobody needs."""
    storage = open_storage(study.url)
    found = examine(study)
    try:
        with explained(study.url):
            count = sum(sweep(storage, part.study_id) for part in study.parts())
            begin_anew(study)
            integrity = check_database(storage.engine)
    finally:
        close_storage(storage)
    removed = sum(CheckpointFolder(part).remove(orphans_of(part)) for part in study.parts())
    return Recovery(found=found, put_back=count, removed_checkpoints=removed, integrity=integrity)


def sweep_study(study: Study, excused: Collection[str] = ()) -> int:
    """Put back what dead workers of the study held; returns how many trials."""
    with explained(study.url):
        storage = open_storage(study.url)
        try:
            return sum(sweep(storage, part.study_id, excused) for part in study.parts())
        finally:
            close_storage(storage)
