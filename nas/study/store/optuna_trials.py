"""Optuna's trials, many at once: five statements, and one distribution for all trials that share it."""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from nas.study.store import tables

SPECIAL = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
"""How Optuna stores numbers that not every database takes; others are FINITE."""

_distribution = lru_cache(maxsize=4096)(json_to_distribution)


def stored_number(value: float) -> tuple[float | None, str]:
    """A number as Optuna stores it: the number and its kind."""
    kind = next((name for name, special in SPECIAL.items() if value == special), None)
    kind = "NAN" if math.isnan(value) else kind
    return (value, "FINITE") if kind is None else (None, kind)


def read_trials(
    connection: sa.Connection, study_id: int, *, beyond: int, also: Collection[int] = ()
) -> list[FrozenTrial]:
    """The trials of a study whose id is greater than ``beyond``, and those of some more ids, by their ids.

    Raises:
        KeyError: there is no such study.
    """
    study = sa.select(tables.optuna_studies.c.study_id).where(tables.optuna_studies.c.study_id == study_id)
    if connection.scalar(study) is None:
        raise KeyError(f"no study with the id {study_id}")
    trials = tables.optuna_trials.c
    wanted = sa.or_(trials.trial_id > beyond, trials.trial_id.in_(also)) if also else trials.trial_id > beyond
    return _read(connection, trials.study_id == study_id, wanted)


def read_trial(connection: sa.Connection, trial_id: int) -> FrozenTrial:
    """One trial by its id; KeyError where there is none."""
    trials = _read(connection, tables.optuna_trials.c.trial_id == trial_id)
    if not trials:
        raise KeyError(f"no trial with the id {trial_id}")
    return trials[0]


def _read(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[FrozenTrial]:
    trials = tables.optuna_trials.c
    query = sa.select(tables.optuna_trials, tables.state_text().label("state_text"))
    rows = connection.execute(query.where(*conditions).order_by(trials.trial_id)).all()
    ids = sa.select(trials.trial_id).where(*conditions)
    params, distributions = _parameters(connection, ids)
    values = {key: [pairs[i] for i in sorted(pairs)] for key, pairs in _numbers(connection, *_VALUES, ids).items()}
    reports = _numbers(connection, *_REPORTS, ids)
    user_attrs, system_attrs = (_attributes(connection, table, ids) for table in _ATTRIBUTES)
    return [
        FrozenTrial(
            number=row.number,
            state=TrialState[row.state_text],
            value=None,
            values=values.get(row.trial_id),
            datetime_start=row.datetime_start,
            datetime_complete=row.datetime_complete,
            params=params.get(row.trial_id, {}),
            distributions=distributions.get(row.trial_id, {}),
            user_attrs=user_attrs.get(row.trial_id, {}),
            system_attrs=system_attrs.get(row.trial_id, {}),
            intermediate_values=reports.get(row.trial_id, {}),
            trial_id=row.trial_id,
        )
        for row in rows
    ]


_VALUES = (tables.optuna_values, "objective", "value")
_REPORTS = (tables.optuna_reports, "step", "intermediate_value")
_ATTRIBUTES = (tables.optuna_user_attributes, tables.optuna_system_attributes)


def _rows(connection: sa.Connection, table: sa.TableClause, ids: sa.Select[Any], *columns: str) -> Sequence[Any]:
    """(trial id, then these columns) of some trials, in the order in which they were stored."""
    key, *_ = table.c
    query = sa.select(table.c.trial_id, *(table.c[name] for name in columns)).where(table.c.trial_id.in_(ids))
    return connection.execute(query.order_by(key)).all()


def _parameters(
    connection: sa.Connection, ids: sa.Select[Any]
) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, BaseDistribution]]]:
    """Answers and distributions, by trial and name."""
    params: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    known: defaultdict[int, dict[str, BaseDistribution]] = defaultdict(dict)
    names = ("param_name", "param_value", "distribution_json")
    for trial_id, name, value, text in _rows(connection, tables.optuna_params, ids, *names):
        known[trial_id][name] = distribution = _distribution(text)
        params[trial_id][name] = distribution.to_external_repr(value)
    return params, known


def _numbers(
    connection: sa.Connection, table: sa.TableClause, key: str, value: str, ids: sa.Select[Any]
) -> dict[int, dict[int, float]]:
    """Values by trial and ``key``."""
    found: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for trial_id, place, number, kind in _rows(connection, table, ids, key, value, f"{value}_type"):
        found[trial_id][place] = SPECIAL.get(kind, number)
    return found


def _attributes(connection: sa.Connection, table: sa.TableClause, ids: sa.Select[Any]) -> dict[int, dict[str, Any]]:
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in _rows(connection, table, ids, "key", "value_json"):
        found[trial_id][key] = json.loads(text)
    return found
