"""A worker that has nothing left to draw stays at hand for what the others may leave."""

import time
from collections.abc import Iterator
from itertools import count

import optuna
import pytest
import sqlalchemy as sa

from nas.measurement import Measurement
from nas.study.run.stop import StopFlag
from nas.study.run.worker import Worker
from nas.study.store import tables
from nas.study.store.leases import put_back
from nas.study.store.optuna_storage import close_storage
from nas.study.store.reader import Study
from nas.study.store.trials import Ledger
from nas.study.store.workers import GRACE_VARIABLE, MIN_GRACE_S, join

from .test_disk_full import Quick
from .test_ledger import ELSEWHERE

ALL_BUT_ONE = ["running"] + ["complete"] * 11


@pytest.fixture(autouse=True)
def grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GRACE_VARIABLE, str(MIN_GRACE_S))


@pytest.fixture
def far(stored: Study) -> Iterator[Worker]:
    """A worker on another host that holds the first trial."""
    worker = Worker(stored, Quick(), stop=StopFlag(), worker_id="far")
    join(worker.engine, stored.study_id, "far", "cpu")
    assert worker._next_trial() is not None
    last_sign_of(worker, seconds_ago=-3600)  # not silent before a test wants it, however slow the machine is
    yield worker
    close_storage(worker.storage)


def last_sign_of(worker: Worker, seconds_ago: float) -> None:
    sign = {"machine": ELSEWHERE, "heartbeat_at": time.time() - seconds_ago}
    with worker.storage.engine.begin() as connection:
        connection.execute(sa.update(tables.workers).values(sign))


def states(study: Study) -> list[str]:
    return [trial.state for trial in study.trials()]


def test_what_a_lost_machine_held_is_taken_up(stored: Study, far: Worker) -> None:
    idle = count()

    def silent() -> bool:
        if states(stored) == ALL_BUT_ONE and next(idle) >= 2:
            last_sign_of(far, seconds_ago=2 * MIN_GRACE_S)
        return False

    assert Worker(stored, Quick(), stop=StopFlag(orphaned=silent)).run(stay=True) == 12
    assert states(stored) == ["complete"] * 12


def test_a_trial_that_somebody_else_has_ended_is_let_go(stored: Study, storage: optuna.storages.RDBStorage) -> None:
    """A program of the user's, through Optuna: nobody waits for it."""

    class Surprised(Quick):
        def __call__(self, *arguments: object, **hooks: object) -> Measurement:
            (trial_id,) = worker.ledger.held()
            if storage.get_trial(trial_id).number == 3:
                storage.set_trial_state_values(trial_id, optuna.trial.TrialState.FAIL)
            return super().__call__(*arguments, **hooks)  # type: ignore[arg-type]

    worker = Worker(stored, Surprised(), stop=StopFlag())
    worker.run(stay=True)
    assert states(stored) == ["complete"] * 3 + ["fail"] + ["complete"] * 8
    assert not Ledger(storage.engine, stored.study_id, "w").any_leased()


def test_what_another_puts_back_is_taken_up(stored: Study, far: Worker, storage: optuna.storages.RDBStorage) -> None:
    worker = Worker(stored, Quick(), stop=StopFlag())
    idle = count()

    def told() -> bool:
        if states(stored) == ALL_BUT_ONE and next(idle) >= 2:
            put_back(storage.engine, far.ledger.held()[0], "far")
        return False

    worker.stop = StopFlag(orphaned=told)
    assert worker.run(stay=True) == 12
    assert states(stored) == ["complete"] * 12


def test_it_leaves_when_it_is_told_to(stored: Study, far: Worker) -> None:
    idle = count()
    stop = StopFlag(orphaned=lambda: states(stored) == ALL_BUT_ONE and next(idle) >= 2)
    assert Worker(stored, Quick(), stop=stop).run(stay=True) == 11
    assert states(stored) == ALL_BUT_ONE


def test_one_that_does_not_stay_leaves_what_others_hold(stored: Study, far: Worker) -> None:
    assert Worker(stored, Quick(), stop=StopFlag()).run() == 11
    assert states(stored) == ALL_BUT_ONE


def test_a_study_is_not_over_before_every_worker_is_done_with_its_trial(
    far: Worker, stored: Study, storage: optuna.storages.RDBStorage
) -> None:
    """It has told how its trial ended, and looks at the rungs once it has given the lease back."""
    Worker(stored, Quick(), stop=StopFlag()).run()
    (trial_id,) = far.ledger.held()
    storage.set_trial_state_values(trial_id, optuna.trial.TrialState.COMPLETE, [0.5])
    assert far._unfinished()
    far.ledger.release(trial_id)
    assert not far._unfinished()
