"""What a study stands on: who works, what dead workers hold, files, clock and space. No optuna, no torch."""

import os
import shutil
import socket
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nas.errors import UserError
from nas.study.records import Study
from nas.study.run.checkpoints import CheckpointFolder, Standing, needed
from nas.study.store import tables
from nas.study.store.engine import clock, explained, open_engine

GRACE_S = 300.0
"""A worker counts as dead after this long without a sign of life; on this host at once when its process ends."""
GRACE_VARIABLE = "FUSION_NAS_GRACE_S"
"""Environment variable with another grace time, the same for all workers of a study; at least `MIN_GRACE_S`."""
MIN_GRACE_S = 5.0


def grace_s() -> float:
    """The grace time in seconds; `UserError` where the environment names one that is none."""
    text = os.environ.get(GRACE_VARIABLE, str(GRACE_S))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not MIN_GRACE_S <= value < float("inf"):
        raise UserError(f"{GRACE_VARIABLE}: expected seconds, at least {MIN_GRACE_S:g}, got {text!r}")
    return value


@dataclass(frozen=True)
class DeadWorker:
    """A worker that holds trials but does not live."""

    worker_id: str
    trial_ids: tuple[int, ...]


def process_lives(pid: int) -> bool:
    """Whether a process of this host exists and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def dead_workers(engine: sa.Engine, study_id: int, known_dead: Collection[str] = ()) -> list[DeadWorker]:
    """Workers that hold leases and are gone: said goodbye, local without a process, or silent for too long."""
    query = (
        sa.select(tables.leases.c.trial_id, tables.leases.c.worker_id, tables.workers)
        .outerjoin(tables.workers, tables.workers.c.worker_id == tables.leases.c.worker_id)
        .where(tables.leases.c.study_id == study_id)
    )
    host, grace = socket.gethostname(), grace_s()
    held: dict[str, list[int]] = {}
    with engine.connect() as connection:
        now = clock(connection)
        for row in connection.execute(query).mappings():
            worker_id = row[tables.leases.c.worker_id]
            local = row["host"] == host
            gone = (
                worker_id in known_dead
                or row["ended_at"] is not None
                or (local and not process_lives(row["pid"]))
                or now - (row["heartbeat_at"] or 0) > grace  # its process number may be another's by now
            )
            if gone:
                held.setdefault(worker_id, []).append(row[tables.leases.c.trial_id])
    return [DeadWorker(worker_id, tuple(trial_ids)) for worker_id, trial_ids in held.items()]


def unleased(engine: sa.Engine, study_id: int) -> list[int]:
    """Running trials of which nobody holds the lease: their worker died, or lost the database, in between."""
    leased = sa.select(tables.leases.c.trial_id).where(tables.leases.c.study_id == study_id)
    optuna_trials = tables.optuna_trials.c
    query = sa.select(optuna_trials.trial_id).where(
        optuna_trials.study_id == study_id,
        tables.state_text() == "RUNNING",
        optuna_trials.trial_id.not_in(leased),
    )
    with engine.connect() as connection:
        return list(connection.scalars(query))


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
    standings = (
        Standing(
            number=t.number,
            state=t.state,
            values=goals.values(t.values) if t.merit is not None else (),
            landmark=t.landmark,
            paused=t.reason == study.settings.pruner.name and goals.several,
        )
        for t in study.trials()
    )
    over = study.num_ended() >= study.target
    return checkpoints.orphans(files, needed(study, standings, over=over))


def examine(study: Study) -> Health:
    """Look at a study; nothing is changed."""
    parts = study.parts()
    with explained(study.url):
        engine = open_engine(study.url)
        dead = [worker for part in parts for worker in dead_workers(engine, part.study_id)]
        stale = {trial_id for worker in dead for trial_id in worker.trial_ids}
        stale |= {trial_id for part in parts for trial_id in unleased(engine, part.study_id)}
        optuna_trials = tables.optuna_trials.c
        with engine.connect() as connection:
            numbers = sa.select(optuna_trials.number).where(optuna_trials.trial_id.in_(stale))
            return Health(
                schema=connection.scalar(sa.select(sa.func.max(tables.schema.c.version))) or 0,
                dead_workers=tuple(worker.worker_id for worker in dead),
                stale_trials=tuple(sorted(connection.scalars(numbers))),
                orphan_checkpoints=tuple(path.name for part in parts for path in orphans_of(part)),
                clock_skew_s=time.time() - clock(connection) if connection.dialect.name != "sqlite" else 0.0,
                free_bytes=shutil.disk_usage(_existing(CheckpointFolder(study).folder)).free,
            )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())
