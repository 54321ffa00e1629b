"""Kills of processes, and what the database says of the trials that they hit."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from nas.machine import process_lives
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.store import tables
from nas.study.store.clock import clock
from nas.study.store.engine import open_engine
from nas.study.store.reader import Study
from nas.training.checkpoint import Checkpoint

LIMIT_S = 7200.0
POLL_S = 0.1


@dataclass
class Hit:
    """One kill, and what became of the trial that it hit."""

    victim: str
    trial: int | None = None
    """Its id, None where no trial was running."""
    at: float = 0.0
    epochs_lost: int = 0
    """Whole epochs that were stored but are run again."""
    resumed_after_s: float | None = None


@dataclass
class Round:
    """One disturbed study and its hits."""

    hits: list[Hit] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    trials: int = 0
    """That there were to be done."""


def launch(line: list[str]) -> "subprocess.Popen[str]":
    """Start a launcher."""
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and what these have started: workers, and the one that forks them."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
    found, family = list[int](), {pid}
    while new := [child for child, parent in parents.items() if parent in family and child not in family]:
        found += new
        family.update(new)
    return found


def kill(*pids: int) -> None:
    """``kill -9`` to all at once, and wait until they are dead."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(process_lives(pid) for pid in pids):
        time.sleep(0.002)


def held_by(url: str, pid: int) -> int | None:
    """The id of the trial that a process trains; the lease of one that has ended may be there for a moment."""
    ended = sa.select(tables.measurements.c.trial_id)
    query = (
        sa.select(tables.leases.c.trial_id)
        .join(tables.workers, tables.leases.c.worker_id == tables.workers.c.worker_id)
        .where(tables.workers.c.pid == pid, tables.leases.c.trial_id.not_in(ended))
    )
    with open_engine(url).connect() as connection:
        return connection.scalar(query)


def note_resumptions(url: str, hits: list[Hit]) -> None:
    """Note since when trials that were hit are held again."""
    open_hits = [hit for hit in hits if hit.trial is not None and hit.resumed_after_s is None]
    if not open_hits:
        return
    with open_engine(url).connect() as connection:
        since = dict(connection.execute(sa.select(tables.leases.c.trial_id, tables.leases.c.since)).all())
    for hit in open_hits:
        if since.get(hit.trial, 0.0) > hit.at:
            hit.resumed_after_s = since[hit.trial] - hit.at


def now(url: str) -> float:
    """The database's clock."""
    with open_engine(url).connect() as connection:
        return clock(connection)


def epochs_lost(url: str, parts: Sequence[Study], trial_id: int) -> int:
    """Epochs of a trial that are stored but that its checkpoint does not hold."""
    ours = tables.optuna_trials.c
    with open_engine(url).connect() as connection:
        stored = connection.scalar(
            sa.select(sa.func.count()).select_from(tables.epochs).where(tables.epochs.c.trial_id == trial_id)
        )
        row = connection.execute(sa.select(ours.number, ours.study_id).where(ours.trial_id == trial_id)).one()
    study = next(part for part in parts if part.study_id == row.study_id)
    path = CheckpointFolder(study).path(row.number)
    return int(stored or 0) - (len(Checkpoint.load(path).records) if path.exists() else 0)
