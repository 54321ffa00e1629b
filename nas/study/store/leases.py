"""Who trains which trial: leases, and what becomes of the trials of workers that died.

Whatever a worker writes of a trial is written in a transaction that first locks the row of its lease
(`require_lease`): nobody can put the trial back in between, and where somebody has, nothing is written.
"""

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from nas.errors import NasError
from nas.study.store import tables
from nas.study.store.clock import clock
from nas.study.store.deaths import note_death_of
from nas.study.store.engine import only_reading
from nas.study.store.workers import Watch, dead_workers

MAX_CRASHES = 3
"""A trial that was being trained when this many workers died, with no new epoch in between, is not handed out again."""


_LEASE = (
    sa.select(tables.leases.c.trial_id)
    .where(tables.leases.c.trial_id == sa.bindparam("trial"), tables.leases.c.worker_id == sa.bindparam("worker"))
    .with_for_update()
)


class LeaseLost(NasError):
    """Another worker was given this trial; what this one still wants to write is dropped."""


def require_lease(connection: sa.Connection, trial_id: int, worker_id: str) -> None:
    """Keep the lease from being taken until the transaction ends; `LeaseLost` where the worker does not hold it."""
    if connection.scalar(_LEASE, {"trial": trial_id, "worker": worker_id}) is None:
        raise LeaseLost(f"trial {trial_id}: the lease went to another worker")


def _held(trial_id: int, worker_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return tables.leases.c.trial_id == trial_id, tables.leases.c.worker_id == worker_id


def add_members(connection: sa.Connection, study_id: int, trial_ids: Sequence[int]) -> None:
    """Make trials members of their study where they are not."""
    ours = tables.members.c
    known = set(connection.scalars(sa.select(ours.trial_id).where(ours.trial_id.in_(trial_ids))))
    if rows := [{"trial_id": trial_id, "study_id": study_id} for trial_id in trial_ids if trial_id not in known]:
        connection.execute(sa.insert(tables.members), rows)


class Leases:
    """The trials of one study that one worker holds."""

    def __init__(self, engine: sa.Engine, study_id: int, worker_id: str) -> None:
        self._engine = engine
        self.study_id = study_id
        self.worker_id = worker_id

    def take_waiting(self) -> int:
        """Lease the member of the study that has waited longest; returns its id. The caller holds the drawing lock.

        Where another worker has its lease, that one died before the trial ran: it would hold the lock else.
        """
        oldest = tables.members_of(self.study_id).where(tables.state_text() == "WAITING")
        with self._engine.begin() as connection:
            trial_id = int(connection.execute(oldest.order_by(tables.optuna_trials.c.trial_id)).scalars().first() or 0)
            connection.execute(sa.delete(tables.leases).where(tables.leases.c.trial_id == trial_id))
            self._insert(connection, trial_id)
        return trial_id

    def lease(self, trial_id: int) -> bool:
        """Take the lease of a trial, which becomes a member; False where another worker holds it."""
        try:
            with self._engine.begin() as connection:
                self._insert(connection, trial_id)
                add_members(connection, self.study_id, [trial_id])
        except IntegrityError:
            return False
        return True

    def _insert(self, connection: sa.Connection, trial_id: int) -> None:
        row = {"trial_id": trial_id, "study_id": self.study_id, "worker_id": self.worker_id}
        connection.execute(sa.insert(tables.leases).values({**row, "since": clock(connection)}))

    def release(self, trial_id: int) -> None:
        """Give the lease back, if this worker still holds it."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(tables.leases).where(*_held(trial_id, self.worker_id)))

    def held(self) -> list[int]:
        """The trials of which this worker holds the lease."""
        query = sa.select(tables.leases.c.trial_id).where(tables.leases.c.worker_id == self.worker_id)
        with only_reading(), self._engine.connect() as connection:
            return list(connection.scalars(query))

    def holds(self, trial_id: int) -> bool:
        """Whether this worker still holds the lease."""
        query = sa.select(tables.leases.c.trial_id).where(*_held(trial_id, self.worker_id))
        with only_reading(), self._engine.connect() as connection:
            return connection.scalar(query) is not None

    def any_leased(self) -> bool:
        """Whether a worker is not yet done with a trial of the study."""
        query = sa.select(tables.leases.c.trial_id).where(tables.leases.c.study_id == self.study_id)
        with only_reading(), self._engine.connect() as connection:
            return connection.scalar(query.limit(1)) is not None


def put_back(engine: sa.Engine, trial_id: int, worker_id: str, *, crashed: bool = False) -> bool:
    """Take the lease from a worker and let the trial wait again; False where it had ended or the lease was lost.

    A trial whose workers ``crashed`` too often is failed instead: it may be what kills them.
    """
    mine = tables.trials.c.trial_id == trial_id
    with engine.begin() as connection:
        if connection.execute(sa.delete(tables.leases).where(*_held(trial_id, worker_id))).rowcount == 0:
            return False
        if not tables.set_state(connection, trial_id, "WAITING", unless=tables.ENDED):
            return False  # its worker had only to give the lease back
        if crashed:
            note_death_of(connection, worker_id)
            connection.execute(sa.update(tables.trials).where(mine).values(crashes=tables.trials.c.crashes + 1))
            crashes = connection.scalar(sa.select(tables.trials.c.crashes).where(mine)) or 0
            if crashes >= MAX_CRASHES:
                reason = f"its worker died {crashes} times (out of memory, or killed)"
                connection.execute(sa.update(tables.trials).where(mine).values(reason=reason))
                tables.set_state(connection, trial_id, "FAIL", unless=tables.ENDED)
    return True


def sweep(engine: sa.Engine, study_id: int, watch: Watch | None, known_dead: Collection[str] = ()) -> int:
    """Put back every trial of dead workers; returns how many.

    A running trial that nobody leased is one that the user's own program asked Optuna for: it is left alone.

    Args:
        watch: since when the caller has been looking; None: judge by the last signs of life.
        known_dead: workers that were ended on purpose: their trials are not to blame.
    """
    count = 0
    with only_reading():
        gone = dead_workers(engine, study_id, watch, known_dead)
    for worker in gone:
        crashed = worker.worker_id not in known_dead
        count += sum(put_back(engine, trial_id, worker.worker_id, crashed=crashed) for trial_id in worker.trial_ids)
    return count


def add_waiting_members(engine: sa.Engine, study_id: int) -> None:
    """Make trials that wait members of their study."""
    trials = tables.optuna_trials.c
    waiting = sa.select(trials.trial_id).where(trials.study_id == study_id, tables.state_text() == "WAITING")
    with engine.begin() as connection:
        if trial_ids := list(connection.scalars(waiting)):
            add_members(connection, study_id, trial_ids)
