"""What this package takes for granted of Optuna beyond its public interface.

A failure here after the bound in pyproject.toml was raised says which part of Optuna has changed.
"""

import inspect
import re
from pathlib import Path

import numpy as np
import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import TrialState

import nas
from benchmarks.objectives import hypervolume
from nas.errors import UserError
from nas.study import optuna_private
from nas.study.store import tables
from nas.study.store.optuna_storage import open_storage
from nas.study.store.optuna_trials import stored_number
from nas.study.store.reader import Study


def test_the_package_touches_private_parts_in_one_file() -> None:
    folder = Path(nas.__file__).parent
    imports = re.compile(r"^\s*(from|import) optuna\S*\._|^from optuna\S* import .*\b_", re.MULTILINE)
    found = [path.relative_to(folder) for path in folder.rglob("*.py") if imports.search(path.read_text())]
    assert found == [Path("study/optuna_private.py")]


def test_a_trial_knows_its_key_in_the_database() -> None:
    study = optuna.create_study()
    trial = study.ask()
    assert optuna_private.id_of(trial) == optuna_private.id_of(study.get_trials()[0])


def test_optunas_memory_of_a_study_asks_for_trials_where_we_answer() -> None:
    asked = inspect.signature(RDBStorage._get_trials).parameters
    assert list(asked) == ["self", "study_id", "states", "included_trial_ids", "trial_id_greater_than"]


def test_tables_of_another_version_of_optuna_are_refused(storage: RDBStorage, stored: Study) -> None:
    assert storage.get_current_version() == storage.get_head_version() == optuna_private.TABLES_VERSION
    with storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v3.0.0.d'"))
    with pytest.raises(UserError, match=r"no longer compatible with the table schema .* optuna storage upgrade"):
        open_storage(stored.url)


def test_our_names_for_optunas_tables_are_theirs(storage: RDBStorage) -> None:
    found = sa.inspect(storage.engine)
    ours = [value for name, value in vars(tables).items() if name.startswith("optuna_")]
    assert len(ours) == 7
    for table in ours:
        assert {column.name for column in table.c} <= {column["name"] for column in found.get_columns(table.name)}


def test_numbers_are_stored_as_optuna_stores_them() -> None:
    from optuna.storages._rdb.models import TrialIntermediateValueModel

    for value in (0.5, float("inf"), float("-inf"), float("nan")):
        number, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        assert stored_number(value) == (number, kind.name)


def test_trials_are_read_as_optuna_reads_them(storage: RDBStorage) -> None:
    """Every state, with everything that a trial can have."""
    study = optuna.create_study(storage=storage, directions=["minimize", "maximize"], study_name="every kind")
    one = optuna.create_study(storage=storage, study_name="reports")
    study.enqueue_trial({"x": 1.0})
    study.ask()
    for state in (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED):
        trial = study.ask()
        trial.suggest_categorical("kind", ["a", 1, None, True, 0.5])
        trial.suggest_float("x", 0.0, 2.0)
        trial.suggest_int("n", 1, 8, log=True)
        trial.set_user_attr("note", {"list": [1, None]})
        trial.set_constraint("size", 0.5)
        study.tell(trial, [1.0, float("inf")] if state == TrialState.COMPLETE else None, state=state)
    study.enqueue_trial({"x": 0.5})
    for value in (0.25, float("nan"), float("inf")):
        trial = one.ask()
        trial.report(value, 1)
        trial.report(0.5, 7)
    plain = RDBStorage(storage.url)
    for each in (study, one):
        study_id = storage.get_study_id_from_name(each.study_name)
        ours, theirs = storage.get_all_trials(study_id), plain.get_all_trials(study_id)
        assert [repr(trial) for trial in ours] == [repr(trial) for trial in theirs]
        assert [repr(storage.get_trial(optuna_private.id_of(trial))) for trial in theirs] == list(map(repr, theirs))
        assert [list(trial.params) for trial in ours] == [list(trial.params) for trial in theirs]
    plain.remove_session()
    plain.engine.dispose()
    with pytest.raises(KeyError):
        storage.get_all_trials(10_000)
    with pytest.raises(KeyError):
        storage.get_trial(10_000)


@pytest.mark.parametrize("num_objectives", [2, 3])
def test_what_spreads_out_is_chosen_one_by_one_by_what_it_adds(num_objectives: int) -> None:
    steps = np.random.default_rng(0).random((20, num_objectives))
    front = 1 - steps / np.linalg.norm(steps, axis=1, keepdims=True)
    reference = 1.1 * front.max(axis=0)
    greedy: list[int] = []
    for _ in range(5):
        greedy.append(max(range(20), key=lambda i: hypervolume(front[[*greedy, i]], reference)))
    assert set(optuna_private.spread_out(front, 5).tolist()) == set(greedy)
