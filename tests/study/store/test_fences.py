"""What a worker writes holds only while it has the lease, also where the sweep comes in between."""

import threading

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from nas.study.store import tables
from nas.study.store.leases import LeaseLost, put_back, require_lease
from nas.study.store.optuna_storage import TrialStorage
from nas.study.store.reader import Study
from nas.study.store.trials import Ledger


@pytest.fixture
def trial(storage: TrialStorage, stored: Study, ledger: Ledger) -> optuna.Trial:
    """A running trial that the worker w1 holds."""
    ledger.take_waiting()
    return optuna.load_study(study_name=stored.name, storage=storage).ask()


def test_optuna_writes_nothing_of_a_trial_that_was_taken_away(
    storage: TrialStorage, stored: Study, trial: optuna.Trial
) -> None:
    """`tell` and attributes too: they are Optuna's own transactions."""
    study = optuna.load_study(study_name=stored.name, storage=storage)
    assert put_back(storage.engine, trial._trial_id, "w1")
    Ledger(storage.engine, stored.study_id, "w2").take_waiting()
    assert study.ask().number == trial.number  # it runs again, as another worker's
    writes = (
        lambda: study.tell(trial, 0.5),
        lambda: study.tell(trial, state=TrialState.FAIL),
        lambda: trial.set_user_attr("x", 1),
        lambda: trial.set_constraint("c", 1.0),
    )
    for write in writes:
        with pytest.raises(LeaseLost), storage.fenced(trial._trial_id, "w1"):
            write()
    found = storage.get_trial(trial._trial_id)
    assert (found.state, found.values, found.constraints) == (TrialState.RUNNING, None, {})
    assert "x" not in found.user_attrs


def test_with_the_lease_optuna_writes(storage: TrialStorage, stored: Study, trial: optuna.Trial) -> None:
    study = optuna.load_study(study_name=stored.name, storage=storage)
    with storage.fenced(trial._trial_id, "w1"):
        study.tell(trial, 0.5)
    assert storage.get_trial(trial._trial_id).values == [0.5]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_sweep_waits_for_a_write_that_has_begun(storage: TrialStorage, trial: optuna.Trial) -> None:
    swept = threading.Event()

    def sweep() -> None:
        put_back(storage.engine, trial._trial_id, "w1")
        swept.set()

    thread = threading.Thread(target=sweep)
    with storage.engine.begin() as connection:
        require_lease(connection, trial._trial_id, "w1")
        thread.start()
        assert not swept.wait(0.5)  # long enough for one that does not wait
        mine = tables.trials.c.trial_id == trial._trial_id
        connection.execute(sa.update(tables.trials).where(mine).values(reason="written in time"))
    thread.join()
    assert storage.get_trial(trial._trial_id).state == TrialState.WAITING
