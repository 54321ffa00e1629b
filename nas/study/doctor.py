"""What a study stands on, and mending it: who works, what dead workers hold, files, clock and space. No optuna."""

import shutil
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.study.run.checkpoints import CheckpointFolder, FileOwner, needed
from nas.study.store.backup import check_database
from nas.study.store.clock import clock_skew_s
from nas.study.store.engine import disposed, open_engine, writing_engine
from nas.study.store.errors import explained
from nas.study.store.leases import add_waiting_members, sweep
from nas.study.store.reader import Study
from nas.study.store.studies import begin_anew
from nas.study.store.upgrade import schema_version
from nas.study.store.workers import HEARTBEAT_S, Watch, dead_workers, numbers_of

SECOND_LOOK_S = 3 * HEARTBEAT_S
"""Between two looks at workers that have been silent: who has only just woken up gives a sign meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a study stands on at one moment."""

    schema: int
    """Version of the database's tables."""
    dead_workers: tuple[str, ...]
    """Workers that hold trials and are gone."""
    stale_trials: tuple[int, ...]
    """Numbers of running trials (and candidates) whose worker is gone; the next free worker puts them back."""
    orphan_checkpoints: tuple[str, ...]
    """Files that no trial needs any more, or that a crash left half-written."""
    clock_skew_s: float
    """How far this machine's clock is ahead of the database server's; 0 for SQLite."""
    free_bytes: int
    """Space left where checkpoints (and an SQLite database) are written."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``; the fields are stable."""
        return asdict(self)


def orphans_of(study: Study) -> list[Path]:
    """Checkpoints of one study that none of its trials needs."""
    checkpoints = CheckpointFolder(study)
    files = checkpoints.files()  # before the trials: a file of a trial that begins meanwhile is not taken for an orphan
    goals = study.settings.goals
    owners = (
        FileOwner(
            number=t.number,
            state=t.state,
            values=goals.values(t.values) if t.merit is not None else (),
            landmark=t.landmark,
            paused=t.reason == study.settings.pruner.name and goals.several,
        )
        for t in study.trials()
    )
    over = study.num_ended() >= study.target
    return checkpoints.orphans(files, needed(study, owners, over=over))


def examine(study: Study) -> Health:
    """Look at a study; nothing is changed."""
    parts = study.parts()
    with explained(study.url):
        engine = open_engine(study.url)
        dead = [worker for part in parts for worker in dead_workers(engine, part.study_id, None)]
        stale = {trial_id for worker in dead for trial_id in worker.trial_ids}
        return Health(
            schema=schema_version(engine, study.url),
            dead_workers=tuple(worker.worker_id for worker in dead),
            stale_trials=numbers_of(engine, stale),
            orphan_checkpoints=tuple(path.name for part in parts for path in orphans_of(part)),
            clock_skew_s=clock_skew_s(engine),
            free_bytes=shutil.disk_usage(_existing(CheckpointFolder(study).folder)).free,
        )


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
    found = examine(study)
    if found.dead_workers:
        time.sleep(SECOND_LOOK_S)
    with explained(study.url), disposed(writing_engine(study.url)) as engine:
        count = sum(sweep(engine, part.study_id, None) for part in study.parts())
        integrity = check_database(engine)
    begin_anew(study)
    removed = sum(CheckpointFolder(part).remove(orphans_of(part)) for part in study.parts())
    return Recovery(found=found, put_back=count, removed_checkpoints=removed, integrity=integrity)


def sweep_study(study: Study, excused: Collection[str] = ()) -> int:
    """Put back what workers that are known to have ended held; returns how many trials.

    What the user has enqueued with Optuna becomes part of the study. Who has only been silent is left to those who
    have been looking for longer (`nas.study.store.workers.Watch`).
    """
    with explained(study.url), disposed(writing_engine(study.url)) as engine:
        for part in study.parts():
            add_waiting_members(engine, part.study_id)
        return sum(sweep(engine, part.study_id, Watch(), excused) for part in study.parts())


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())
