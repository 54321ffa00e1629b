"""Writing a study: which trial owns what, who works on it, and what came out.

Every write that belongs to a trial is fenced: it takes effect only while the worker holds the trial's lease.
"""

import math
import os
import socket
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from sqlalchemy.exc import IntegrityError

from nas.architecture import Architecture
from nas.errors import NasError, UserError
from nas.measurement import Cost, EpochRecord, Measurement, Outcome, StabilityEvent
from nas.study.goals import quantities
from nas.study.store import tables
from nas.study.store.engine import clock, only_reading
from nas.study.store.optuna_trials import stored_number
from nas.study.store.reader import cost_of, epoch_of

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

    from nas.estimate.shared import SharedScore
    from nas.fusion.cost import CostComparison

TRIAL_STATE = sa.Enum("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING", name="trialstate")
"""As Optuna's table has it."""


class LeaseLost(NasError):
    """Another worker was given this trial; what this one still wants to write is dropped."""


class Ledger:
    """The ``nas_`` tables of one study, as one worker writes them."""

    def __init__(self, storage: "RDBStorage", study_id: int, worker_id: str) -> None:
        self._engine: sa.Engine = storage.engine
        self.study_id = study_id
        self.worker_id = worker_id

    # Workers

    def join(self, device: str) -> None:
        """Enter this process among the study's workers; one that worked on another study before moves."""
        row = {
            "worker_id": self.worker_id,
            "study_id": self.study_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "device": device,
        }
        mine = tables.workers.c.worker_id == self.worker_id
        with self._engine.begin() as connection:
            now = clock(connection)
            connection.execute(sa.delete(tables.workers).where(mine))
            connection.execute(sa.insert(tables.workers).values({**row, "started_at": now, "heartbeat_at": now}))

    def heartbeat(self) -> None:
        """Give a sign of life."""
        self._note_moment("heartbeat_at")

    def leave(self) -> None:
        """Say goodbye."""
        self._note_moment("ended_at")

    def _note_moment(self, column: str) -> None:
        mine = tables.workers.c.worker_id == self.worker_id
        with self._engine.begin() as connection:
            connection.execute(sa.update(tables.workers).where(mine).values({column: clock(connection)}))

    # Leases

    def lease(self, trial_id: int) -> bool:
        """Take the lease of a trial that was just drawn; False where another worker holds it."""
        row = {
            "trial_id": trial_id,
            "study_id": self.study_id,
            "worker_id": self.worker_id,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(tables.leases).values({**row, "since": clock(connection)}))
        except IntegrityError:
            return False
        return True

    def release(self, trial_id: int) -> None:
        """Give the lease back, if this worker still holds it."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(tables.leases).where(*self._held(trial_id)))

    def any_leased(self) -> bool:
        """Whether a worker is not yet done with a trial of the study."""
        query = sa.select(tables.leases.c.trial_id).where(tables.leases.c.study_id == self.study_id)
        with only_reading(), self._engine.connect() as connection:
            return connection.scalar(query.limit(1)) is not None

    def any_in(self, *states: str) -> bool:
        """Whether one of the trials that the study is to have is in one of these states."""
        trials = tables.optuna_trials.c
        wanted = trials.number < tables.num_trials_of(self.study_id).scalar_subquery()
        query = sa.select(trials.trial_id).where(trials.study_id == self.study_id, wanted)
        with only_reading(), self._engine.connect() as connection:
            return connection.scalar(query.where(tables.state_text().in_(states)).limit(1)) is not None

    def held(self) -> list[int]:
        """The trials of which this worker holds the lease."""
        query = sa.select(tables.leases.c.trial_id).where(tables.leases.c.worker_id == self.worker_id)
        with only_reading(), self._engine.connect() as connection:
            return list(connection.scalars(query))

    def holds(self, trial_id: int) -> bool:
        """Whether this worker still holds the lease."""
        with only_reading(), self._engine.connect() as connection:
            return self._holds(connection, trial_id)

    def _held(self, trial_id: int) -> tuple[sa.ColumnElement[bool], ...]:
        return (tables.leases.c.trial_id == trial_id, tables.leases.c.worker_id == self.worker_id)

    def _holds(self, connection: sa.Connection, trial_id: int) -> bool:
        query = sa.select(sa.literal(1)).select_from(tables.leases).where(*self._held(trial_id))
        return connection.scalar(query) is not None

    def _require(self, connection: sa.Connection, trial_id: int) -> None:
        if not self._holds(connection, trial_id):
            raise LeaseLost(f"trial {trial_id}: the lease went to another worker")

    # Trials

    def own(self, trial_id: int, architecture: Architecture, landmark: str | None = None) -> int:
        """Make the trial the owner of an architecture; returns the id of the trial that owns it."""
        digest = architecture.digest
        with self._engine.begin() as connection:
            owner = connection.scalar(self._owner(digest))
            if owner is not None:
                return int(owner)
            _insert_missing(
                connection,
                tables.architectures,
                {"digest": digest, "content": architecture.canonical().to_dict()},
            )
            row = {
                "trial_id": trial_id,
                "study_id": self.study_id,
                "digest": digest,
                "landmark": landmark,
                "crashes": 0,
            }
            inserted = _insert_missing(connection, tables.trials, row)
            return trial_id if inserted else int(connection.scalar(self._owner(digest)) or trial_id)

    def _owner(self, digest: str) -> sa.Select[Any]:
        ours = tables.trials.c
        return sa.select(ours.trial_id).where(ours.study_id == self.study_id, ours.digest == digest)

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
        with self._engine.begin() as connection:
            self._require(connection, trial_id)
            connection.execute(sa.insert(tables.optuna_params), rows)

    def record_epoch(self, trial_id: int, seed: int, epoch: EpochRecord, *, report: float | None = None) -> None:
        """Store one epoch, and what Optuna is to hear of it; an attempt that was broken off may have stored it before.

        A trial that gets on is not what kills its workers: its crashes are forgotten.
        """
        row = {key: v if v is not None and math.isfinite(v) else None for key, v in asdict(epoch).items()}
        done = tables.epochs.c
        with self._engine.begin() as connection:
            self._require(connection, trial_id)
            same = (done.trial_id == trial_id, done.seed == seed, done.epoch == epoch.epoch)
            again = connection.execute(sa.delete(tables.epochs).where(*same)).rowcount
            connection.execute(sa.insert(tables.epochs).values(trial_id=trial_id, seed=seed, **row))
            if report is not None:
                _report(connection, trial_id, epoch.epoch + 1, report)
            if not again:
                mine = tables.trials.c.trial_id == trial_id
                connection.execute(sa.update(tables.trials).where(mine).values(crashes=0))

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
            "finished_at": time.time(),
        }
        with self._engine.begin() as connection:
            self._require(connection, trial_id)
            connection.execute(sa.insert(tables.measurements).values(row))
            _forget_after(connection, trial_id, measurement.seed, len(measurement.epochs))
            self._set_reason(connection, trial_id, measurement.reason)
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
            "finished_at": time.time(),
        }
        ours = tables.scores.c
        with self._engine.begin() as connection:
            self._require(connection, trial_id)
            first = sa.select(ours.network).where(ours.study_id == self.study_id).limit(1)
            if (network := connection.scalar(first)) not in (None, score.network):
                raise UserError(
                    f"candidates are ranked by the shared networks {network}, this worker has {score.network}: "
                    "share one checkpoint folder (FUSION_NAS_CHECKPOINTS), or give the study a new name"
                )
            connection.execute(sa.delete(tables.scores).where(ours.trial_id == trial_id))
            connection.execute(sa.insert(tables.scores).values(row))

    def fail(self, trial_id: int, reason: str) -> None:
        """Store why a trial failed."""
        with self._engine.begin() as connection:
            self._require(connection, trial_id)
            self._set_reason(connection, trial_id, reason)

    def _set_reason(self, connection: sa.Connection, trial_id: int, reason: str | None) -> None:
        mine = tables.trials.c.trial_id == trial_id
        connection.execute(sa.update(tables.trials).where(mine).values(reason=reason and reason[:256]))

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

    def clock(self, plain_ms: float) -> float:
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
        with self._engine.begin() as connection:
            self._require(connection, trial_id)
            connection.execute(sa.insert(tables.costs).values(row))

    def cost(self, trial_id: int) -> tuple[Cost, str | None] | None:
        """What `record_cost` has stored; None before."""
        with only_reading(), self._engine.connect() as connection:
            query = sa.select(tables.costs).where(tables.costs.c.trial_id == trial_id)
            row = connection.execute(query).mappings().first()
        return (cost_of(row), row["broken"]) if row else None

    # Rungs

    def reached(self, epochs: int, beside: Collection[int] = ()) -> dict[int, dict[str, float]]:
        """What was known after so many epochs, by trial id, of all trials that ran so long but those in ``beside``."""
        ran, ours = tables.epochs.c, tables.trials.c
        there = sa.select(ran.trial_id).join(tables.trials, ours.trial_id == ran.trial_id)
        there = there.where(ours.study_id == self.study_id, ran.epoch == epochs - 1)
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

    def known(self, trial_id: int) -> tuple[int, dict[str, float]]:
        """Epochs that a trial has run, and what is known of it after them."""
        ran = sa.select(tables.epochs).where(tables.epochs.c.trial_id == trial_id).order_by(tables.epochs.c.epoch)
        with only_reading(), self._engine.connect() as connection:
            records = [epoch_of(row) for row in connection.execute(ran).mappings()]
        stored = self.cost(trial_id)
        return len(records), quantities(records, stored[0] if stored else None)

    def stopped(self, reason: str) -> dict[int, int]:
        """Trials that ended with ``reason`` before their budget was spent, and after how many epochs each.

        Not those whose worker is about to end them, and those beyond the number that the study is to have.
        """
        done, ran, trials = tables.measurements.c, tables.epochs.c, tables.optuna_trials.c
        query = (
            sa.select(done.trial_id, sa.func.count(ran.epoch))
            .join(tables.epochs, ran.trial_id == done.trial_id)
            .join(tables.optuna_trials, trials.trial_id == done.trial_id)
            .where(trials.number < tables.num_trials_of(self.study_id).scalar_subquery())
            .where(done.study_id == self.study_id, done.outcome == Outcome.STOPPED.value, done.reason == reason)
            .where(done.trial_id.not_in(sa.select(tables.leases.c.trial_id)))
            .group_by(done.trial_id)
        )
        with only_reading(), self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def promotions(self) -> set[tuple[int, int]]:
        """(trial id, epochs): rungs past which a stopped trial was let."""
        query = sa.select(tables.promotions.c.trial_id, tables.promotions.c.epochs)
        with only_reading(), self._engine.connect() as connection:
            rows = connection.execute(query.where(tables.promotions.c.study_id == self.study_id))
            return {(row.trial_id, row.epochs) for row in rows}

    def promote(self, trial_id: int, epochs: int) -> None:
        """Let a stopped trial wait to go on: it is as if it had not ended."""
        mine = [table.c.trial_id == trial_id for table in (tables.measurements, tables.events)]
        row = {"trial_id": trial_id, "study_id": self.study_id, "epochs": epochs}
        waiting = {"state": sa.cast("WAITING", TRIAL_STATE), "datetime_complete": None}
        ended = tables.optuna_trials.c.trial_id == trial_id
        with self._engine.begin() as connection:
            connection.execute(sa.insert(tables.promotions).values(row))
            connection.execute(sa.delete(tables.measurements).where(mine[0]))
            connection.execute(sa.delete(tables.events).where(mine[1]))
            self._set_reason(connection, trial_id, None)
            connection.execute(sa.update(tables.optuna_trials).where(ended).values(waiting))

    # The study

    def want_no_more(self) -> None:
        """Let the study be content with the networks that it has: there are no others."""
        drawn = sa.select(sa.func.count()).where(tables.trials.c.study_id == self.study_id).scalar_subquery()
        refused = tables.num_refused_of(self.study_id)
        mine = tables.studies.c.study_id == self.study_id
        with self._engine.begin() as connection:
            connection.execute(sa.update(tables.studies).where(mine).values(target=drawn - refused))

    def full(self) -> bool:
        """Whether the study has all its trials, those that a constraint keeps from training among them."""
        trials = tables.optuna_trials.c
        count = sa.select(sa.func.count()).where(trials.study_id == self.study_id).scalar_subquery()
        enough = sa.select(count >= tables.num_trials_of(self.study_id).scalar_subquery())
        with only_reading(), self._engine.connect() as connection:
            return bool(connection.scalar(enough))


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


def _insert_missing(connection: sa.Connection, table: sa.Table, row: Mapping[str, object]) -> bool:
    """Insert a row unless its key is taken; True where it was inserted."""
    savepoint = connection.begin_nested()
    try:
        connection.execute(sa.insert(table).values(row))
    except IntegrityError:
        savepoint.rollback()
        return False
    savepoint.commit()
    return True
