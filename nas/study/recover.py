"""Putting back what dead workers held, so that nothing stays RUNNING for ever."""

import os
import shutil
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from nas.errors import UserError
from nas.study import tables
from nas.study.checkpoints import CheckpointFolder
from nas.study.records import Study
from nas.study.storage import clock, close_storage, exclusive, explained, open_storage

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

GRACE_S = 300.0
"""A worker counts as dead after this long without a sign of life; on this host at once when its process ends."""
GRACE_VARIABLE = "FUSION_NAS_GRACE_S"
"""Environment variable with another grace time, the same for all workers of a study; at least `MIN_GRACE_S`."""
MIN_GRACE_S = 5.0
MAX_CRASHES = 2
"""A trial that was being trained when this many workers died is not handed out again."""


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


def dead_workers(storage: "RDBStorage", study_id: int, known_dead: Collection[str] = ()) -> list[DeadWorker]:
    """Workers that hold leases and are gone: said goodbye, local without a process, or silent for too long."""
    query = (
        sa.select(tables.leases.c.trial_id, tables.leases.c.worker_id, tables.workers)
        .outerjoin(tables.workers, tables.workers.c.worker_id == tables.leases.c.worker_id)
        .where(tables.leases.c.study_id == study_id)
    )
    host, grace = socket.gethostname(), grace_s()
    held: dict[str, list[int]] = {}
    with storage.engine.connect() as connection:
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


def put_back(storage: "RDBStorage", trial_id: int, worker_id: str, *, crashed: bool = False) -> bool:
    """Take the lease from a worker and let the trial wait again; False where the worker no longer held it.

    A trial whose workers ``crashed`` too often is failed instead: it may be what kills them.
    """
    with exclusive(storage.url):  # nobody may draw the trial between the end of its lease and its new state
        return _put_back(storage, trial_id, worker_id, crashed=crashed)


def _put_back(storage: "RDBStorage", trial_id: int, worker_id: str, *, crashed: bool) -> bool:
    held = (tables.leases.c.trial_id == trial_id, tables.leases.c.worker_id == worker_id)
    mine = tables.trials.c.trial_id == trial_id
    with storage.engine.begin() as connection:
        if connection.execute(sa.delete(tables.leases).where(*held)).rowcount == 0:
            return False
        if crashed:
            connection.execute(sa.update(tables.trials).where(mine).values(crashes=tables.trials.c.crashes + 1))
        crashes = connection.scalar(sa.select(tables.trials.c.crashes).where(mine)) or 0
        if crashed and crashes >= MAX_CRASHES:
            reason = f"its worker died {crashes} times (out of memory, or killed)"
            connection.execute(sa.update(tables.trials).where(mine).values(reason=reason))
            state = TrialState.FAIL
        else:
            state = TrialState.WAITING
    return _set_state(storage, trial_id, state)


def _set_state(storage: "RDBStorage", trial_id: int, state: TrialState) -> bool:
    try:
        return bool(storage.set_trial_state_values(trial_id, state))
    except UpdateFinishedTrialError:
        return False


def sweep(storage: "RDBStorage", study_id: int, known_dead: Collection[str] = ()) -> int:
    """Put back every trial of dead workers and every running one that nobody leased; returns how many.

    ``known_dead`` are workers that were ended on purpose: their trials are not to blame.
    """
    count = 0
    for worker in dead_workers(storage, study_id, known_dead):
        crashed = worker.worker_id not in known_dead
        count += sum(put_back(storage, trial_id, worker.worker_id, crashed=crashed) for trial_id in worker.trial_ids)
    with exclusive(storage.url):  # trials are drawn and leased under this lock: none is in between
        for trial_id in _unleased(storage, study_id):
            count += _set_state(storage, trial_id, TrialState.WAITING)
    return count


def _unleased(storage: "RDBStorage", study_id: int) -> list[int]:
    """Running trials of which nobody holds the lease: their worker died, or lost the database, in between."""
    leased = sa.select(tables.leases.c.trial_id).where(tables.leases.c.study_id == study_id)
    optuna_trials = tables.optuna_trials.c
    query = sa.select(optuna_trials.trial_id).where(
        optuna_trials.study_id == study_id,
        sa.cast(optuna_trials.state, sa.String) == TrialState.RUNNING.name,  # an enumeration in PostgreSQL
        optuna_trials.trial_id.not_in(leased),
    )
    with storage.engine.connect() as connection:
        return list(connection.scalars(query))


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What `recover` found and did."""

    put_back: int
    """Trials of dead workers that wait again."""
    dead: tuple[str, ...]
    """Workers that held trials and were gone."""
    removed_checkpoints: int
    """Files of trials that had ended."""
    integrity: str
    """`ok`, or what the database says is wrong with it."""
    clock_skew_s: float
    """How far this machine's clock is ahead of the database server's; 0 for SQLite."""
    free_bytes: int
    """Space left where checkpoints (and an SQLite database) are written."""


def recover(study: Study) -> Recovery:
    """Free the trials of dead workers, check database and checkpoints, remove files that nobody needs."""
    storage = open_storage(study.url)
    try:
        with explained(study.url):
            ids = [part.study_id for part in (study, study.candidates()) if part]
            dead = tuple(worker.worker_id for number in ids for worker in dead_workers(storage, number))
            count = sum(sweep(storage, number) for number in ids)
            integrity, skew = _check_database(storage)
            checkpoints = CheckpointFolder(study)
            removed = checkpoints.remove_done(storage.get_all_trials(study.study_id, deepcopy=False))
    finally:
        close_storage(storage)
    return Recovery(
        put_back=count,
        dead=dead,
        removed_checkpoints=removed,
        integrity=integrity,
        clock_skew_s=skew,
        free_bytes=shutil.disk_usage(_existing(checkpoints.folder)).free,
    )


def _check_database(storage: "RDBStorage") -> tuple[str, float]:
    with storage.engine.connect() as connection:
        if storage.engine.dialect.name == "sqlite":
            return str(connection.exec_driver_sql("PRAGMA integrity_check").scalar()), 0.0
        return "ok", time.time() - clock(connection)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())
