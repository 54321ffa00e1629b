"""What the rows of a study say, as records: the joins over Optuna's tables and ours, without optuna."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nas.architecture import Architecture
from nas.measurement import Cost, EpochRecord, StabilityEvent
from nas.study.config import StudyConfig
from nas.study.goals import holds, quantities
from nas.study.records import TrialRecord
from nas.study.store import tables

_COST_COLUMNS = tuple(tables.costs.c[field.name] for field in fields(Cost))


def cost_of(row: sa.RowMapping, prefix: str = "") -> Cost:
    """The network's cost in a row of `nas.study.store.tables.costs`."""
    return Cost(**{column.name: row[prefix + column.name] for column in _COST_COLUMNS})


_UNKNOWN_AT_TIMES = ("val_top5", "val_macro_f1", "val_balanced_accuracy")
_EPOCH_FIELDS = {field.name: None if field.name in _UNKNOWN_AT_TIMES else math.nan for field in fields(EpochRecord)}
"""What stands for NULL in each column."""


def epoch_of(row: sa.RowMapping) -> EpochRecord:
    """The record in a row of `nas.study.store.tables.epochs`: a loss or norm that is NULL was not finite."""
    values: dict[str, Any] = {
        name: missing if (value := row[name]) is None else value for name, missing in _EPOCH_FIELDS.items()
    }
    return EpochRecord(**values)


def trial_records(
    connection: sa.Connection, study_id: int, settings: StudyConfig, runs: Sequence[str] = ()
) -> tuple[TrialRecord, ...]:
    """The trials of a study in the order of their numbers; of a calibration with the keys of its ``runs``."""
    rows = connection.execute(_trials_query(study_id)).mappings().all()
    epochs, events = _epochs_by_trial(connection, study_id), _events_by_trial(connection, study_id)
    records = (_record(row, epochs[row["trial_id"]], events[row["trial_id"]], settings) for row in rows)
    return tuple(records) if not runs else tuple(_of_run(record, runs) for record in records)


def _trials_query(study_id: int) -> sa.Select[Any]:
    optuna_trials, ours = tables.optuna_trials, tables.trials
    last = (
        sa.select(tables.measurements.c.trial_id, sa.func.max(tables.measurements.c.id).label("id"))
        .where(tables.measurements.c.study_id == study_id)
        .group_by(tables.measurements.c.trial_id)
        .subquery()
    )
    measured = tables.measurements
    return (
        sa.select(
            optuna_trials,
            ours.c.digest,
            ours.c.landmark,
            ours.c.crashes,
            sa.func.coalesce(ours.c.reason, tables.members.c.reason).label("reason"),
            tables.architectures.c.content,
            tables.leases.c.worker_id.label("lease_worker"),
            *(column.label(f"cost_{column.name}") for column in _COST_COLUMNS),
            *(measured.c[name] for name in ("seed", "budget", "score", "num_params", "macs", "wall_s", "worker_id")),
            sa.func.coalesce(measured.c.finished_at, tables.scores.c.finished_at).label("told_at"),
        )
        .select_from(optuna_trials)
        .join(tables.members, tables.members.c.trial_id == optuna_trials.c.trial_id)
        .outerjoin(ours, ours.c.trial_id == optuna_trials.c.trial_id)
        .outerjoin(tables.architectures, tables.architectures.c.digest == ours.c.digest)
        .outerjoin(tables.leases, tables.leases.c.trial_id == optuna_trials.c.trial_id)
        .outerjoin(tables.costs, tables.costs.c.trial_id == optuna_trials.c.trial_id)
        .outerjoin(last, last.c.trial_id == optuna_trials.c.trial_id)
        .outerjoin(measured, measured.c.id == last.c.id)
        .outerjoin(tables.scores, tables.scores.c.trial_id == optuna_trials.c.trial_id)
        .where(optuna_trials.c.study_id == study_id)
        .order_by(optuna_trials.c.number)
    )


def _of_study(table: sa.Table, study_id: int) -> sa.Select[Any]:
    return (
        sa.select(table)
        .join(tables.optuna_trials, tables.optuna_trials.c.trial_id == table.c.trial_id)
        .where(tables.optuna_trials.c.study_id == study_id)
    )


def _epochs_by_trial(connection: sa.Connection, study_id: int) -> defaultdict[int, list[EpochRecord]]:
    found: defaultdict[int, list[EpochRecord]] = defaultdict(list)
    query = _of_study(tables.epochs, study_id).order_by(tables.epochs.c.trial_id, tables.epochs.c.epoch)
    for row in connection.execute(query).mappings().all():  # all at once: a call for each row takes longer
        found[row["trial_id"]].append(epoch_of(row))
    return found


def _events_by_trial(connection: sa.Connection, study_id: int) -> defaultdict[int, list[StabilityEvent]]:
    found: defaultdict[int, list[StabilityEvent]] = defaultdict(list)
    for row in connection.execute(_of_study(tables.events, study_id).order_by(tables.events.c.id)).mappings():
        plain = {key: value for key, value in row.items() if key not in ("id", "trial_id", "seed", "trace")}
        found[row["trial_id"]].append(StabilityEvent(**plain, trace=tuple(row["trace"])))
    return found


def _record(
    row: sa.RowMapping, epochs: list[EpochRecord], events: list[StabilityEvent], settings: StudyConfig
) -> TrialRecord:
    content, state = row["content"], row["state"].lower()
    last = epochs[-1].val_accuracy if epochs else None
    cost = cost_of(row, "cost_") if row["cost_num_params"] is not None else None
    known, goals = quantities(epochs, cost), settings.goals
    if row["score"] is not None:
        known["val_accuracy"] = row["score"]
    able = state == "complete" and holds(settings.limits, known)
    merit = goals.merit(known[goals.leading]) if able and goals.leading in known else None
    started_at, finished_at = _times(row)
    return TrialRecord(
        number=row["number"],
        state=state,
        reason=row["reason"],
        landmark=row["landmark"],
        digest=row["digest"],
        architecture=Architecture.from_dict(content) if content else None,
        score=row["score"] if row["score"] is not None else last,
        seed=row["seed"],
        budget=row["budget"],
        num_params=cost.num_params if cost else row["num_params"],
        macs=cost.macs if cost else row["macs"],
        cost=cost,
        values={name: known[name] for name in goals.names if name in known},
        merit=merit,
        wall_s=row["wall_s"],
        worker=row["worker_id"] or row["lease_worker"],
        crashes=row["crashes"] or 0,
        started_at=started_at,
        finished_at=finished_at,
        epochs=tuple(epochs),
        events=tuple(events),
    )


def _of_run(record: TrialRecord, runs: Sequence[str]) -> TrialRecord:
    """A trial of a calibration: it is no candidate, whatever its score."""
    return replace(record, run=runs[record.number] if record.number < len(runs) else None, merit=None)


def _times(row: sa.RowMapping) -> tuple[datetime | None, datetime | None]:
    """When a trial was begun and when it ended, in this machine's local time.

    Optuna stores each worker's own local time. Where the database has noted the end by its clock, that is taken, and
    of Optuna's two only what lies between them.
    """
    started, ended = _moment(row["datetime_start"]), _moment(row["datetime_complete"])
    if started is None or ended is None or row["told_at"] is None:
        return started, ended
    noted = datetime.fromtimestamp(row["told_at"])
    return noted - (ended - started), noted


def _moment(value: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
