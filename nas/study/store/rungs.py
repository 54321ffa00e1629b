"""What is stored of the trials that rungs compare, and the promotion of one that a rung had stopped."""

from collections.abc import Collection

import sqlalchemy as sa

from nas.measurement import EpochRecord, Outcome
from nas.study.goals import quantities
from nas.study.store import tables
from nas.study.store.engine import only_reading
from nas.study.store.rows import cost_of, epoch_of
from nas.study.store.trials import set_reason


class StoredRungs:
    """A `nas.study.search.rungs.RungRecords` of one study."""

    def __init__(self, engine: sa.Engine, study_id: int) -> None:
        self._engine = engine
        self._study_id = study_id

    def reached(self, epochs: int, beside: Collection[int] = ()) -> dict[int, dict[str, float]]:
        """What was known after so many epochs, by trial id, of all trials that ran so long but those in ``beside``."""
        ran, ours = tables.epochs.c, tables.trials.c
        there = sa.select(ran.trial_id).join(tables.trials, ours.trial_id == ran.trial_id)
        there = there.where(ours.study_id == self._study_id, ran.epoch == epochs - 1)
        found: dict[int, list[EpochRecord]] = {}
        with only_reading(), self._engine.connect() as connection:
            new = set(connection.scalars(there)) - set(beside)
            if not new:
                return {}
            known = sa.select(tables.costs).where(tables.costs.c.trial_id.in_(new))
            costs = {row["trial_id"]: cost_of(row) for row in connection.execute(known).mappings()}
            rows = sa.select(tables.epochs).where(ran.trial_id.in_(new), ran.epoch < epochs)
            for row in connection.execute(rows.order_by(ran.trial_id, ran.epoch)).mappings():
                found.setdefault(row["trial_id"], []).append(epoch_of(row))
        return {trial: quantities(records, costs.get(trial)) for trial, records in found.items()}

    def stopped(self, reason: str) -> dict[int, int]:
        """Trials that ended with ``reason`` before their budget was spent, and after how many epochs each.

        Not those whose worker is about to end them.
        """
        done, ran = tables.measurements.c, tables.epochs.c
        query = (
            sa.select(done.trial_id, sa.func.count(ran.epoch))
            .join(tables.epochs, ran.trial_id == done.trial_id)
            .where(done.study_id == self._study_id, done.outcome == Outcome.STOPPED.value, done.reason == reason)
            .where(done.trial_id.not_in(sa.select(tables.leases.c.trial_id)))
            .group_by(done.trial_id)
        )
        with only_reading(), self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def promotions(self) -> set[tuple[int, int]]:
        """(trial id, epochs): rungs past which a stopped trial was let."""
        query = sa.select(tables.promotions.c.trial_id, tables.promotions.c.epochs)
        with only_reading(), self._engine.connect() as connection:
            rows = connection.execute(query.where(tables.promotions.c.study_id == self._study_id))
            return {(row.trial_id, row.epochs) for row in rows}

    def promote(self, trial_id: int, epochs: int) -> None:
        """Let a stopped trial wait to go on: it is as if it had not ended. The caller holds the lock of drawing."""
        row = {"trial_id": trial_id, "study_id": self._study_id, "epochs": epochs}
        with self._engine.begin() as connection:
            if not tables.set_state(connection, trial_id, "WAITING", unless=("WAITING", "RUNNING")):
                return
            connection.execute(sa.insert(tables.promotions).values(row))
            for table in (tables.measurements, tables.events):
                connection.execute(sa.delete(table).where(table.c.trial_id == trial_id))
            set_reason(connection, trial_id, None)
