"""Writing a study: which trial owns what, and what came out. Every write holds only while the worker has the lease."""

import math
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from sqlalchemy.exc import IntegrityError

from nas.architecture import Architecture
from nas.errors import UserError
from nas.measurement import Cost, EpochRecord, Measurement, Outcome, StabilityEvent
from nas.study.goals import quantities
from nas.study.store import tables
from nas.study.store.clock import clock
from nas.study.store.deaths import forget_deaths
from nas.study.store.engine import only_reading
from nas.study.store.leases import Leases, add_waiting_members, require_lease
from nas.study.store.optuna_trials import stored_number
from nas.study.store.rows import cost_of, epoch_of

if TYPE_CHECKING:
    from nas.estimate.shared_scoring import SharedScore
    from nas.fusion.cost import CostComparison


class Ledger(Leases):
    """The trials of one study, as one worker writes them."""

    @contextmanager
    def _owning(self, trial_id: int) -> Iterator[sa.Connection]:
        """A transaction that writes of a trial; `LeaseLost` where this worker does not hold it."""
        with self._engine.begin() as connection:
            require_lease(connection, trial_id, self.worker_id)
            yield connection

    # Trials

    def own(self, trial_id: int, architecture: Architecture, landmark: str | None = None) -> int:
        """Make the trial the owner of an architecture; returns the id of the trial that owns it."""
        with self._owning(trial_id) as connection:
            return give_architecture(connection, self.study_id, trial_id, architecture, landmark)

    def owned(self, trial_id: int) -> Architecture | None:
        """The architecture that a trial owns, None before it was drawn."""
        query = (
            sa.select(tables.architectures.c.content)
            .join(tables.trials, tables.trials.c.digest == tables.architectures.c.digest)
            .where(tables.trials.c.trial_id == trial_id)
        )
        with only_reading(), self._engine.connect() as connection:
            content = connection.scalar(query)
        return Architecture.from_dict(content) if content else None

    def set_parameters(self, trial_id: int, params: Mapping[str, tuple[Any, BaseDistribution]]) -> None:
        """Store Optuna's parameters of a trial, all in one transaction; Optuna would take one for each."""
        rows = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": distribution.to_internal_repr(value),
                "distribution_json": distribution_to_json(distribution),
            }
            for name, (value, distribution) in params.items()
        ]
        with self._owning(trial_id) as connection:
            connection.execute(sa.insert(tables.optuna_params), rows)

    def record_epoch(self, trial_id: int, seed: int, epoch: EpochRecord, *, report: float | None = None) -> None:
        """Store one epoch, and what Optuna is to hear of it; an attempt that was broken off may have stored it before.

        A trial that gets on is not what kills its workers: its crashes are forgotten.
        """
        row = {key: v if v is not None and math.isfinite(v) else None for key, v in asdict(epoch).items()}
        done = tables.epochs.c
        with self._owning(trial_id) as connection:
            same = (done.trial_id == trial_id, done.seed == seed, done.epoch == epoch.epoch)
            again = connection.execute(sa.delete(tables.epochs).where(*same)).rowcount
            connection.execute(sa.insert(tables.epochs).values(trial_id=trial_id, seed=seed, **row))
            if report is not None:
                _report(connection, trial_id, epoch.epoch + 1, report)
            if not again:
                mine = tables.trials.c.trial_id == trial_id
                connection.execute(sa.update(tables.trials).where(mine).values(crashes=0))
                forget_deaths(connection, self.study_id)

    def finish(self, trial_id: int, digest: str, measurement: Measurement) -> None:
        """Store the result of a run, its events and its reason in one transaction."""
        row = {
            "study_id": self.study_id,
            "trial_id": trial_id,
            "digest": digest,
            "seed": measurement.seed,
            "budget": measurement.budget,
            "outcome": measurement.outcome.value,
            "reason": measurement.reason,
            "score": measurement.score,
            "num_params": measurement.num_params,
            "macs": measurement.macs,
            "wall_s": measurement.wall_s,
            "worker_id": self.worker_id,
        }
        with self._owning(trial_id) as connection:
            connection.execute(sa.insert(tables.measurements).values(row | {"finished_at": clock(connection)}))
            _forget_after(connection, trial_id, measurement.seed, len(measurement.epochs))
            set_reason(connection, trial_id, measurement.reason)
            if measurement.test_correct:
                connection.execute(sa.insert(tables.tests).values(self._test_row(trial_id, digest, measurement)))
            for event in measurement.events:
                connection.execute(sa.insert(tables.events).values(_event_row(trial_id, measurement.seed, event)))

    def _test_row(self, trial_id: int, digest: str, measurement: Measurement) -> dict[str, Any]:
        return {
            "trial_id": trial_id,
            "study_id": self.study_id,
            "digest": digest,
            "num_images": len(measurement.test_correct),
            "correct": np.packbits(measurement.test_correct).tobytes(),
        }

    def record_score(self, trial_id: int, score: "SharedScore", wall_s: float) -> None:
        """Store what shared networks say of a candidate; refuse a score of networks other than those before."""
        row = {
            "trial_id": trial_id,
            "study_id": self.study_id,
            "network": score.network,
            "accuracy": score.accuracy,
            "loss": score.loss,
            "wall_s": wall_s,
            "worker_id": self.worker_id,
        }
        ours = tables.scores.c
        with self._owning(trial_id) as connection:
            first = sa.select(ours.network).where(ours.study_id == self.study_id).limit(1)
            if (network := connection.scalar(first)) not in (None, score.network):
                raise UserError(
                    f"candidates are ranked by the shared networks {network}, this worker has {score.network}: "
                    "share one checkpoint folder (FUSION_NAS_CHECKPOINTS), or give the study a new name"
                )
            connection.execute(sa.delete(tables.scores).where(ours.trial_id == trial_id))
            connection.execute(sa.insert(tables.scores).values(row | {"finished_at": clock(connection)}))
            forget_deaths(connection, self.study_id)

    def fail(self, trial_id: int, reason: str) -> None:
        """Store why a trial failed."""
        with self._owning(trial_id) as connection:
            set_reason(connection, trial_id, reason)

    def measured(self, digest: str, seed: int, budget: int) -> tuple[Outcome, float | None] | None:
        """What an earlier run of the same work gave, None where there is none."""
        done = tables.measurements.c
        query = sa.select(done.outcome, done.score).where(
            done.study_id == self.study_id, done.digest == digest, done.seed == seed, done.budget == budget
        )
        with only_reading(), self._engine.connect() as connection:
            row = connection.execute(query).first()
        return (Outcome(row.outcome), row.score) if row else None

    # Costs

    def latency_clock(self, plain_ms: float) -> float:
        """What the plain network takes on the study's clock, which the first worker that asks sets to ``plain_ms``."""
        mine = tables.studies.c.study_id == self.study_id
        unset = tables.studies.c.clock_ms.is_(None)
        with self._engine.begin() as connection:
            connection.execute(sa.update(tables.studies).where(mine, unset).values(clock_ms=plain_ms))
            return float(connection.execute(sa.select(tables.studies.c.clock_ms).where(mine)).scalar_one())

    def record_cost(self, trial_id: int, known: "CostComparison", broken: str | None) -> None:
        """Store what is known of a trial's network before its training, and which constraint keeps it from it."""
        row = {
            "trial_id": trial_id,
            "study_id": self.study_id,
            **asdict(known.fused),
            "plain_latency_ms": known.plain.latency_ms,
            "device": known.device,
            "broken": broken and broken[:256],
        }
        with self._owning(trial_id) as connection:
            connection.execute(sa.insert(tables.costs).values(row))

    def cost(self, trial_id: int) -> tuple[Cost, str | None] | None:
        """What `record_cost` has stored; None before."""
        with only_reading(), self._engine.connect() as connection:
            query = sa.select(tables.costs).where(tables.costs.c.trial_id == trial_id)
            row = connection.execute(query).mappings().first()
        return (cost_of(row), row["broken"]) if row else None

    def known(self, trial_id: int) -> tuple[int, dict[str, float]]:
        """Epochs that a trial has run, and what is known of it after them."""
        ran = sa.select(tables.epochs).where(tables.epochs.c.trial_id == trial_id).order_by(tables.epochs.c.epoch)
        with only_reading(), self._engine.connect() as connection:
            records = [epoch_of(row) for row in connection.execute(ran).mappings()]
        stored = self.cost(trial_id)
        return len(records), quantities(records, stored[0] if stored else None)

    # The study

    def want_no_more(self, trial_id: int) -> None:
        """Let the study be content with the networks that it has: there was none for this trial, which leaves it."""
        drawn = sa.select(sa.func.count()).where(tables.trials.c.study_id == self.study_id).scalar_subquery()
        refused = tables.num_refused_of(self.study_id)
        mine = tables.studies.c.study_id == self.study_id
        with self._owning(trial_id) as connection:
            connection.execute(sa.delete(tables.members).where(tables.members.c.trial_id == trial_id))
            connection.execute(sa.update(tables.studies).where(mine).values(target=drawn - refused))

    def any_in(self, *states: str) -> bool:
        """Whether a trial of the study is in one of these states."""
        trials = tables.optuna_trials.c
        query = tables.members_of(self.study_id).where(tables.state_text().in_(states)).limit(1)
        with only_reading(), self._engine.connect() as connection:
            return connection.scalar(query.with_only_columns(trials.trial_id)) is not None

    def full(self) -> bool:
        """Whether the study has all its trials, those that a constraint keeps from training among them."""
        count = sa.select(sa.func.count()).where(tables.members.c.study_id == self.study_id).scalar_subquery()
        enough = sa.select(count >= tables.num_trials_of(self.study_id).scalar_subquery())
        with only_reading(), self._engine.connect() as connection:
            return bool(connection.scalar(enough))

    def adopt_waiting(self) -> None:
        """Make trials that wait members of the study: also those that the user has enqueued with Optuna."""
        add_waiting_members(self._engine, self.study_id)


def give_architecture(
    connection: sa.Connection, study_id: int, trial_id: int, architecture: Architecture, landmark: str | None
) -> int:
    """Make a trial the owner of an architecture; returns the id of the trial that owns it."""
    digest, ours = architecture.digest, tables.trials.c
    query = sa.select(ours.trial_id).where(ours.study_id == study_id, ours.digest == digest)
    if (owner := connection.scalar(query)) is not None:
        return int(owner)
    content = {"digest": digest, "content": architecture.canonical().to_dict()}
    insert_missing(connection, tables.architectures, content)
    row = {"trial_id": trial_id, "study_id": study_id, "digest": digest, "landmark": landmark, "crashes": 0}
    inserted = insert_missing(connection, tables.trials, row)
    return trial_id if inserted else int(connection.scalar(query) or trial_id)


def give_architectures(
    engine: sa.Engine, study_id: int, architectures: Mapping[int, tuple[Architecture, str | None]]
) -> None:
    """Give trials that were enqueued what they are to train, by their ids: architectures and names of landmarks."""
    with engine.begin() as connection:
        for trial_id, (architecture, landmark) in architectures.items():
            give_architecture(connection, study_id, trial_id, architecture, landmark)


def set_reason(connection: sa.Connection, trial_id: int, reason: str | None) -> None:
    """Note why a trial has ended, also one that has no network."""
    for table in (tables.trials, tables.members):
        mine = table.c.trial_id == trial_id
        if connection.execute(sa.update(table).where(mine).values(reason=reason and reason[:256])).rowcount:
            return


def new_worker_id() -> str:
    """A name for this process that no other process ever had."""
    return f"{socket.gethostname()[:24]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _report(connection: sa.Connection, trial_id: int, step: int, value: float) -> None:
    """What Optuna's ``Trial.report`` stores."""
    reports = tables.optuna_reports
    stored, kind = stored_number(value)
    connection.execute(sa.delete(reports).where(reports.c.trial_id == trial_id, reports.c.step == step))
    connection.execute(
        sa.insert(reports).values(trial_id=trial_id, step=step, intermediate_value=stored, intermediate_value_type=kind)
    )


def _forget_after(connection: sa.Connection, trial_id: int, seed: int, num_epochs: int) -> None:
    """Remove what a broken-off attempt stored beyond the end of this one, which the pruner stopped sooner."""
    stored, reports = tables.epochs.c, tables.optuna_reports
    beyond = (stored.trial_id == trial_id, stored.seed == seed, stored.epoch >= num_epochs)
    connection.execute(sa.delete(tables.epochs).where(*beyond))
    connection.execute(sa.delete(reports).where(reports.c.trial_id == trial_id, reports.c.step > num_epochs))


def _event_row(trial_id: int, seed: int, event: StabilityEvent) -> dict[str, Any]:
    return {"trial_id": trial_id, "seed": seed, **asdict(event), "trace": list(event.trace)}


def insert_missing(connection: sa.Connection, table: sa.Table, row: Mapping[str, object]) -> bool:
    """Insert a row unless its key is taken; True where it was inserted."""
    savepoint = connection.begin_nested()
    try:
        connection.execute(sa.insert(table).values(row))
    except IntegrityError:
        savepoint.rollback()
        return False
    savepoint.commit()
    return True
