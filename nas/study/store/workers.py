"""The workers of a study: signs of life, and which of those that hold trials are gone."""

import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from nas.errors import UserError
from nas.machine import Machine, process_lives, process_start
from nas.study.store import tables
from nas.study.store.clock import clock
from nas.study.store.deaths import num_deaths

GRACE_S = 300.0
"""A worker counts as dead after this long without a sign of life; on this machine at once when its process ends."""
GRACE_VARIABLE = "FUSION_NAS_GRACE_S"
"""Environment variable with another grace time, the same for all workers of a study; at least `MIN_GRACE_S`."""
MIN_GRACE_S = 5.0
HEARTBEAT_S = 5.0
"""Between signs of life; never more than a quarter of the grace time."""


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


def join(engine: sa.Engine, study_id: int, worker_id: str, device: str) -> None:
    """Enter this process among a study's workers; one that worked on another study before moves."""
    row: dict[str, Any] = {
        "worker_id": worker_id,
        "study_id": study_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": device,
        "machine": str(Machine.this()),
        "process_start": process_start(os.getpid()),
    }
    with engine.begin() as connection:
        now = clock(connection)
        row |= {"started_at": now, "heartbeat_at": now, "deaths_before": num_deaths(connection, study_id)}
        connection.execute(sa.delete(tables.workers).where(tables.workers.c.worker_id == worker_id))
        connection.execute(sa.insert(tables.workers).values(row))


def give_sign(engine: sa.Engine, worker_id: str) -> None:
    """Note that a worker lives."""
    _note_moment(engine, worker_id, "heartbeat_at")


def leave(engine: sa.Engine, worker_id: str) -> None:
    """Note that a worker has said goodbye."""
    _note_moment(engine, worker_id, "ended_at")


def _note_moment(engine: sa.Engine, worker_id: str, column: str) -> None:
    mine = tables.workers.c.worker_id == worker_id
    with engine.begin() as connection:
        connection.execute(sa.update(tables.workers).where(mine).values({column: clock(connection)}))


@dataclass
class Watch:
    """Since when a process has been looking at others without a break.

    After a laptop's sleep, or an outage of the database, everybody has been silent: whoever is back first must not
    hold that against the others.
    """

    since: float | None = None
    """Moment on the database's clock; None before the first look."""
    looked_at: float = 0.0

    def look(self, now: float) -> None:
        """Note a look; a break as long as half of the grace time begins the watch anew."""
        if self.since is None or now - self.looked_at > grace_s() / 2:
            self.since = now
        self.looked_at = now

    def silence_s(self, heartbeat_at: float) -> float:
        """For how long a worker has been silent while this process looked."""
        return self.looked_at - max(heartbeat_at, self.looked_at if self.since is None else self.since)


@dataclass(frozen=True)
class DeadWorker:
    """A worker that holds trials but does not live."""

    worker_id: str
    trial_ids: tuple[int, ...]


def dead_workers(
    engine: sa.Engine, study_id: int, watch: Watch | None, known_dead: Collection[str] = ()
) -> list[DeadWorker]:
    """Workers that hold leases and are gone: said goodbye, without a process on this machine, or silent too long.

    Args:
        watch: since when the caller has been looking; None: judge by the last signs of life.
    """
    query = (
        sa.select(tables.leases.c.trial_id, tables.leases.c.worker_id, tables.workers)
        .outerjoin(tables.workers, tables.workers.c.worker_id == tables.leases.c.worker_id)
        .where(tables.leases.c.study_id == study_id)
    )
    held: dict[str, list[int]] = {}
    with engine.connect() as connection:
        now = clock(connection)
        if watch is not None:
            watch.look(now)
        for row in connection.execute(query).mappings():
            worker_id = row[tables.leases.c.worker_id]
            heard_at = row["heartbeat_at"] or 0.0
            silence_s = watch.silence_s(heard_at) if watch else now - heard_at
            if worker_id in known_dead or _is_gone(row) or silence_s > grace_s():
                held.setdefault(worker_id, []).append(row[tables.leases.c.trial_id])
    return [DeadWorker(worker_id, tuple(trial_ids)) for worker_id, trial_ids in held.items()]


def _is_gone(row: sa.RowMapping) -> bool:
    """Whether a worker has said goodbye, or its process is known to have ended."""
    if row["ended_at"] is not None:
        return True
    if row["machine"] is None:  # it joined before schema 6, or never
        return False
    here, there = Machine.this(), Machine.parse(row["machine"])
    return here.was(there) or (here.sees(there) and not process_lives(row["pid"], row["process_start"]))


def numbers_of(engine: sa.Engine, trial_ids: Collection[int]) -> tuple[int, ...]:
    """The numbers of trials, smallest first."""
    ours = tables.optuna_trials.c
    with engine.connect() as connection:
        return tuple(sorted(connection.scalars(sa.select(ours.number).where(ours.trial_id.in_(trial_ids)))))
