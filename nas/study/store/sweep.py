"""Putting back what dead workers held, so that nothing stays RUNNING for ever."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from nas.study.store import tables
from nas.study.store.deaths import note_death_of
from nas.study.store.engine import only_reading
from nas.study.store.lock import exclusive
from nas.study.store.workers import dead_workers, unleased

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


MAX_CRASHES = 3
"""A trial that was being trained when this many workers died, with no new epoch in between, is not handed out again."""


def put_back(storage: "RDBStorage", trial_id: int, worker_id: str, *, crashed: bool = False) -> bool:
    """Take the lease from a worker and let the trial wait again; False where it had ended or the lease was lost.

    A trial whose workers ``crashed`` too often is failed instead: it may be what kills them.
    """
    with exclusive(storage.url):  # nobody may draw the trial between the end of its lease and its new state
        return _put_back(storage, trial_id, worker_id, crashed=crashed)


def _put_back(storage: "RDBStorage", trial_id: int, worker_id: str, *, crashed: bool) -> bool:
    held = (tables.leases.c.trial_id == trial_id, tables.leases.c.worker_id == worker_id)
    mine = tables.trials.c.trial_id == trial_id
    stored = sa.select(tables.state_text()).where(tables.optuna_trials.c.trial_id == trial_id)
    with storage.engine.begin() as connection:
        study_id = connection.scalar(sa.select(tables.leases.c.study_id).where(*held))
        if study_id is None or connection.execute(sa.delete(tables.leases).where(*held)).rowcount == 0:
            return False
        if connection.scalar(stored) in tables.ENDED:  # its worker had only to give the lease back
            return False
        if crashed:
            note_death_of(connection, study_id, worker_id)
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
    with only_reading():
        gone = dead_workers(storage.engine, study_id, known_dead)
    for worker in gone:
        crashed = worker.worker_id not in known_dead
        count += sum(put_back(storage, trial_id, worker.worker_id, crashed=crashed) for trial_id in worker.trial_ids)
    with only_reading():
        if not unleased(storage.engine, study_id):
            return count
    with exclusive(storage.url):  # trials are drawn and leased under this lock: none is in between
        for trial_id in unleased(storage.engine, study_id):
            count += _set_state(storage, trial_id, TrialState.WAITING)
    return count
