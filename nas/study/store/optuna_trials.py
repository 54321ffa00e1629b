"""Optuna's trials, many at once: five statements, and one distribution for all trials that share it."""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    asked = {"study": study_id, "beyond": beyond}
    if connection.scalar(_STUDY, {"study": study_id}) is None:
        raise KeyError(f"no study with the id {study_id}")
    return _read(connection, _NEW_AND_SOME, {**asked, "also": list(also)}) if also else _read(connection, _NEW, asked)


def read_trial(connection: sa.Connection, trial_id: int) -> FrozenTrial:
    """One trial by its id; KeyError where there is none."""
    trials = _read(connection, _ONE, {"trial": trial_id})
    if not trials:
        raise KeyError(f"no trial with the id {trial_id}")
    return trials[0]


# Built once: to build a statement takes SQLAlchemy longer than SQLite to run it.
_trial = tables.optuna_trials.c
_STUDY = sa.select(tables.optuna_studies.c.study_id).where(tables.optuna_studies.c.study_id == sa.bindparam("study"))
_OF_STUDY = _trial.study_id + 0 == sa.bindparam("study")
"""Not by the index of studies, which would look at every trial of the study."""
_IS_NEW = _trial.trial_id > sa.bindparam("beyond")
_IS_ONE_OF = _trial.trial_id.in_(sa.bindparam("also", expanding=True))
_TRIALS = sa.select(tables.optuna_trials, tables.state_text().label("state_text")).order_by(_trial.trial_id)
_ONE = _TRIALS.where(_trial.trial_id == sa.bindparam("trial"))
_NEW = _TRIALS.where(_OF_STUDY, _IS_NEW)
_NEW_AND_SOME = _TRIALS.where(_OF_STUDY, sa.or_(_IS_NEW, _IS_ONE_OF))


def _parts(table: sa.TableClause, *columns: str) -> sa.Select[Any]:
    """(trial id, then these columns) of the trials ``ids``, in the order in which they were stored."""
    key, *_ = table.c
    wanted = sa.select(*(table.c[name] for name in ("trial_id", *columns)))
    return wanted.where(table.c.trial_id.in_(sa.bindparam("ids", expanding=True))).order_by(key)


_PARAMS = _parts(tables.optuna_params, "param_name", "param_value", "distribution_json")
_VALUES = _parts(tables.optuna_values, "objective", "value", "value_type")
_REPORTS = _parts(tables.optuna_reports, "step", "intermediate_value", "intermediate_value_type")
_USER_ATTRIBUTES = _parts(tables.optuna_user_attributes, "key", "value_json")
_SYSTEM_ATTRIBUTES = _parts(tables.optuna_system_attributes, "key", "value_json")
AT_ONCE = 500
"""Trials that one statement names: a database takes only so many values."""


def _read(connection: sa.Connection, query: sa.Select[Any], asked: Mapping[str, Any]) -> list[FrozenTrial]:
    rows = connection.execute(query, asked).all()
    found = (_with_parts(connection, rows[start : start + AT_ONCE]) for start in range(0, len(rows), AT_ONCE))
    return [trial for some in found for trial in some]


def _with_parts(connection: sa.Connection, rows: Sequence[Any]) -> list[FrozenTrial]:
    asked = {"ids": [row.trial_id for row in rows]}
    params, distributions = _parameters(connection.execute(_PARAMS, asked))
    by_objective = _numbers(connection.execute(_VALUES, asked))
    values = {key: [pairs[i] for i in sorted(pairs)] for key, pairs in by_objective.items()}
    reports = _numbers(connection.execute(_REPORTS, asked))
    user_attrs = _attributes(connection.execute(_USER_ATTRIBUTES, asked))
    system_attrs = _attributes(connection.execute(_SYSTEM_ATTRIBUTES, asked))
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


def _parameters(rows: Iterable[Any]) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, BaseDistribution]]]:
    """Answers and distributions, by trial and name."""
    params: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    known: defaultdict[int, dict[str, BaseDistribution]] = defaultdict(dict)
    for trial_id, name, value, text in rows:
        known[trial_id][name] = distribution = _distribution(text)
        params[trial_id][name] = distribution.to_external_repr(value)
    return params, known


def _numbers(rows: Iterable[Any]) -> dict[int, dict[int, float]]:
    """Values by trial and key."""
    found: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for trial_id, place, number, kind in rows:
        found[trial_id][place] = SPECIAL.get(kind, number)
    return found


def _attributes(rows: Iterable[Any]) -> dict[int, dict[str, Any]]:
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in rows:
        found[trial_id][key] = json.loads(text)
    return found
