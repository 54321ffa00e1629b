"""Workers in the database: who holds trials, and who of them is gone."""

import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from nas.errors import UserError
from nas.study.store import tables
from nas.study.store.engine import clock

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


def numbers_of(engine: sa.Engine, trial_ids: Collection[int]) -> tuple[int, ...]:
    """The numbers of trials, smallest first."""
    ours = tables.optuna_trials.c
    with engine.connect() as connection:
        return tuple(sorted(connection.scalars(sa.select(ours.number).where(ours.trial_id.in_(trial_ids)))))
