"""Fencing, ownership, and putting back what dead workers held."""

import dataclasses
import os
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from nas.machine import process_lives, process_start
from nas.measurement import EpochRecord, Measurement, Outcome, StabilityEvent
from nas.space.landmarks import landmark
from nas.space.space import SearchSpace
from nas.study.search.sampler import distributions
from nas.study.store import tables
from nas.study.store.leases import MAX_CRASHES, LeaseLost, put_back, sweep
from nas.study.store.reader import Study
from nas.study.store.trials import Ledger
from nas.study.store.workers import join, leave

Storage = optuna.storages.RDBStorage
Ask = Callable[[], optuna.Trial]
ELSEWHERE = "another-boot|pid:[4026531836]|"
EPOCH = EpochRecord(
    epoch=0,
    train_loss=1.0,
    val_loss=1.1,
    val_accuracy=0.6,
    learning_rate=0.1,
    grad_norm=2.0,
    train_s=0.5,
    val_s=0.1,
)
EVENT = StabilityEvent(
    signal="loss-spike",
    epoch=0,
    step=7,
    value=9.0,
    threshold=3.0,
    message="it rose",
    trace=({"step": 6, "loss": 1.0},),
)


def result(outcome: Outcome = Outcome.COMPLETE, **more: object) -> Measurement:
    fields = {
        "score": 0.6,
        "seed": 0,
        "budget": 5,
        "num_params": 10,
        "macs": 20,
        "wall_s": 1.0,
        "epochs": (EPOCH,),
    }
    return Measurement(outcome=outcome, **{**fields, **more})  # type: ignore[arg-type]


@pytest.fixture
def ask(storage: Storage, stored: Study) -> Callable[[], optuna.Trial]:
    return optuna.load_study(study_name=stored.name, storage=storage).ask


def plain_of(space: SearchSpace, name: str = "plain"):
    return landmark(name, backbone=space.backbone, num_classes=space.num_classes, in_chans=space.in_chans)


def test_a_trial_is_leased_once(ledger: Ledger, storage: Storage, stored: Study) -> None:
    other = Ledger(storage.engine, stored.study_id, "w2")
    assert ledger.lease(1)
    assert not other.lease(1)
    ledger.release(1)
    assert other.lease(1)


def test_an_architecture_has_one_owner(ledger: Ledger, space: SearchSpace) -> None:
    plain = plain_of(space)
    assert ledger.lease(1)
    assert ledger.lease(2)
    assert ledger.own(1, plain, "plain") == 1
    assert ledger.own(2, plain) == 1
    assert ledger.own(1, plain) == 1
    assert ledger.owned(1) == plain.canonical()
    assert ledger.owned(2) is None


def test_results_come_back_as_records(ask: Ask, ledger: Ledger, stored: Study, space: SearchSpace) -> None:
    trial = ask()
    plain = plain_of(space)
    assert ledger.lease(trial._trial_id)
    ledger.own(trial._trial_id, plain, "plain")
    ledger.record_epoch(trial._trial_id, 0, EPOCH)
    ledger.finish(trial._trial_id, plain.digest, result(Outcome.UNSTABLE, reason="loss-spike", events=(EVENT,)))
    record = stored.trial(0)
    assert record.epochs == (EPOCH,)
    assert record.events == (EVENT,)
    assert (record.reason, record.score, record.crashes, record.landmark) == ("loss-spike", 0.6, 0, "plain")
    assert record.architecture == plain
    assert ledger.measured(plain.digest, 0, 5) == (Outcome.UNSTABLE, 0.6)
    assert ledger.measured(plain.digest, 1, 5) is None


def test_moments_are_the_databases_though_the_worker_lives_in_another_time_zone(
    ask: Ask, ledger: Ledger, storage: Storage, stored: Study, space: SearchSpace
) -> None:
    trial = ask()
    plain = plain_of(space)
    assert ledger.lease(trial._trial_id)
    ledger.own(trial._trial_id, plain, "plain")
    ledger.finish(trial._trial_id, plain.digest, result())
    there = datetime.now() + timedelta(hours=5)
    times = {"datetime_start": there - timedelta(seconds=90), "datetime_complete": there}
    mine = tables.optuna_trials.c.trial_id == trial._trial_id
    with storage.engine.begin() as connection:
        connection.execute(sa.update(tables.optuna_trials).where(mine).values(times))
    record = stored.trial(0)
    assert record.started_at is not None
    assert record.finished_at is not None
    assert abs(record.finished_at.timestamp() - stored.now()) < 60
    assert record.finished_at - record.started_at == timedelta(seconds=90)


def test_answers_on_test_images_come_back_bit_by_bit(
    ask: Ask, ledger: Ledger, stored: Study, space: SearchSpace
) -> None:
    correct = tuple(number % 3 == 0 for number in range(21))  # no whole number of bytes
    for network, answers in (("plain", correct), ("se-everywhere", ())):
        trial = ask()
        architecture = plain_of(space, network)
        assert ledger.lease(trial._trial_id)
        ledger.own(trial._trial_id, architecture)
        ledger.finish(trial._trial_id, architecture.digest, result(test_correct=answers))
    found = stored.test_results()
    assert found.keys() == {plain_of(space).digest}
    assert tuple(found[plain_of(space).digest]) == correct


def test_parameters_are_stored_as_optuna_stores_them(
    ask: Ask, ledger: Ledger, storage: Storage, space: SearchSpace
) -> None:
    known = distributions(space)
    theirs, ours = ask(), ask()
    params = {name: theirs.suggest_categorical(name, choice.choices) for name, choice in known.items()}
    assert ledger.lease(ours._trial_id)
    ledger.set_parameters(ours._trial_id, {name: (params[name], known[name]) for name in params})
    expected, stored = (storage.get_trial(trial._trial_id) for trial in (theirs, ours))
    assert stored.params == expected.params == params
    assert stored.distributions == expected.distributions


def test_epochs_are_reported_to_optuna(ask: Ask, ledger: Ledger, storage: Storage, space: SearchSpace) -> None:
    trial = ask()
    ledger.lease(trial._trial_id)
    ledger.own(trial._trial_id, plain_of(space))
    for epoch, value in ((0, 0.5), (0, 0.6), (1, 0.7)):
        ledger.record_epoch(trial._trial_id, 0, dataclasses.replace(EPOCH, epoch=epoch), report=value)
    assert storage.get_trial(trial._trial_id).intermediate_values == {1: 0.6, 2: 0.7}


def test_an_epoch_that_is_run_again_is_stored_once(ask: Ask, ledger: Ledger, stored: Study, space: SearchSpace) -> None:
    trial = ask()
    ledger.lease(trial._trial_id)
    ledger.own(trial._trial_id, plain_of(space))
    for _ in range(2):
        ledger.record_epoch(trial._trial_id, 0, EPOCH)
    assert stored.trial(0).epochs == (EPOCH,)


def test_what_a_broken_off_attempt_stored_beyond_the_end_goes(
    ask: Ask, ledger: Ledger, storage: Storage, stored: Study, space: SearchSpace
) -> None:
    """Killed after three epochs; run again, the pruner stops it after the first."""
    trial, plain = ask(), plain_of(space)
    ledger.lease(trial._trial_id)
    ledger.own(trial._trial_id, plain)
    for epoch in (0, 1, 2, 0):
        ledger.record_epoch(trial._trial_id, 0, dataclasses.replace(EPOCH, epoch=epoch), report=0.5)
    ended = dataclasses.replace(result(Outcome.STOPPED, reason="median"), epochs=(EPOCH,))
    ledger.finish(trial._trial_id, plain.digest, ended)
    assert stored.trial(0).epochs == (EPOCH,)
    assert storage.get_trial(trial._trial_id).intermediate_values == {1: 0.5}


def test_without_the_lease_nothing_is_written(
    ask: Ask, ledger: Ledger, storage: Storage, stored: Study, space: SearchSpace
) -> None:
    trial = ask()
    plain = plain_of(space)
    ledger.lease(trial._trial_id)
    ledger.own(trial._trial_id, plain)
    assert put_back(storage.engine, trial._trial_id, "w1")
    other = Ledger(storage.engine, stored.study_id, "w2")
    assert other.lease(trial._trial_id)
    for write in (
        lambda: ledger.record_epoch(trial._trial_id, 0, EPOCH, report=0.6),
        lambda: ledger.finish(trial._trial_id, plain.digest, result()),
        lambda: ledger.fail(trial._trial_id, "x"),
        lambda: ledger.set_parameters(trial._trial_id, {"x": ("a", CategoricalDistribution(["a"]))}),
    ):
        with pytest.raises(LeaseLost, match="another worker"):
            write()
    ledger.release(trial._trial_id)
    assert other.holds(trial._trial_id)
    assert stored.trial(0).epochs == ()
    assert storage.get_trial(trial._trial_id).intermediate_values == {}


def test_the_same_work_is_never_stored_twice(ask: Ask, ledger: Ledger, stored: Study, space: SearchSpace) -> None:
    trial = ask()
    plain = plain_of(space)
    ledger.lease(trial._trial_id)
    ledger.own(trial._trial_id, plain)
    ledger.finish(trial._trial_id, plain.digest, result())
    with pytest.raises(sa.exc.IntegrityError):
        ledger.finish(trial._trial_id, plain.digest, result())


def test_a_dead_local_worker_is_swept(ask: Ask, storage: Storage, stored: Study) -> None:
    process = subprocess.Popen(["sleep", "60"])
    dead = Ledger(storage.engine, stored.study_id, "dead")
    join(storage.engine, stored.study_id, dead.worker_id, "cpu")
    with storage.engine.begin() as connection:
        connection.execute(sa.update(tables.workers).values(pid=process.pid, process_start=process_start(process.pid)))
    trial = ask()
    dead.lease(trial._trial_id)
    assert sweep(storage.engine, stored.study_id, None) == 0
    process.kill()
    process.wait()
    assert sweep(storage.engine, stored.study_id, None) == 1
    assert storage.get_trial(trial._trial_id).state == TrialState.WAITING
    assert not dead.holds(trial._trial_id)


def test_a_trial_that_kills_three_workers_is_not_handed_out_again(
    ask: Ask, storage: Storage, stored: Study, space: SearchSpace
) -> None:
    trial = ask()
    for number, expected in enumerate((TrialState.WAITING, TrialState.WAITING, TrialState.FAIL)):
        worker = Ledger(storage.engine, stored.study_id, f"w{number}")
        worker.lease(trial._trial_id)
        worker.own(trial._trial_id, plain_of(space))
        assert put_back(storage.engine, trial._trial_id, worker.worker_id, crashed=True)
        assert storage.get_trial(trial._trial_id).state == expected
    assert stored.trial(0).reason == "its worker died 3 times (out of memory, or killed)"


def test_a_worker_that_dies_with_a_trial_that_has_ended_changes_nothing(
    ask: Ask, storage: Storage, stored: Study, space: SearchSpace
) -> None:
    trial = ask()
    ledger = Ledger(storage.engine, stored.study_id, "w")
    ledger.lease(trial._trial_id)
    ledger.own(trial._trial_id, plain_of(space))
    with storage.engine.begin() as connection:
        connection.execute(sa.update(tables.trials).values(crashes=MAX_CRASHES - 1))
    storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.5])
    assert not put_back(storage.engine, trial._trial_id, "w", crashed=True)
    assert not ledger.any_leased()
    assert (stored.trial(0).state, stored.trial(0).reason) == ("complete", None)


def test_a_silent_worker_elsewhere_is_swept_after_the_grace_time(ask: Ask, storage: Storage, stored: Study) -> None:
    far = Ledger(storage.engine, stored.study_id, "far")
    join(storage.engine, stored.study_id, far.worker_id, "cpu")
    trial = ask()
    far.lease(trial._trial_id)
    for age, expected in ((10, 0), (1000, 1)):
        with storage.engine.begin() as connection:
            connection.execute(sa.update(tables.workers).values(machine=ELSEWHERE, heartbeat_at=time.time() - age))
        assert sweep(storage.engine, stored.study_id, None) == expected


def test_a_local_worker_whose_process_number_is_another_process_now(ask: Ask, storage: Storage, stored: Study) -> None:
    """After a reboot, say: the number lives, but nobody gives a sign of life."""
    old = Ledger(storage.engine, stored.study_id, "old")
    join(storage.engine, stored.study_id, old.worker_id, "cpu")
    trial = ask()
    old.lease(trial._trial_id)
    with storage.engine.begin() as connection:
        connection.execute(sa.update(tables.workers).values(pid=os.getpid(), heartbeat_at=time.time() - 1000))
    assert sweep(storage.engine, stored.study_id, None) == 1


def test_only_a_new_epoch_forgives_crashes(
    ask: Ask, ledger: Ledger, storage: Storage, stored: Study, space: SearchSpace
) -> None:
    trial = ask()
    for crashes in range(1, MAX_CRASHES + 1):  # epoch 0 is new in the first attempt only
        assert ledger.lease(trial._trial_id)
        ledger.own(trial._trial_id, plain_of(space))
        ledger.record_epoch(trial._trial_id, 0, EPOCH)
        put_back(storage.engine, trial._trial_id, "w1", crashed=True)
        assert stored.trial(0).crashes == crashes
    assert stored.trial(0).state == "fail"


def test_a_running_trial_that_nobody_leased_is_left_to_the_program_that_asked_for_it(
    ask: Ask, ledger: Ledger, storage: Storage, stored: Study
) -> None:
    """Our workers lease a trial before it runs."""
    trial = ask()
    assert sweep(storage.engine, stored.study_id, None) == 0
    assert storage.get_trial(trial._trial_id).state == TrialState.RUNNING


def test_finished_trials_stay_finished(ask: Ask, ledger: Ledger, storage: Storage, stored: Study) -> None:
    study = optuna.load_study(study_name=stored.name, storage=storage)
    trial = study.ask()
    ledger.lease(trial._trial_id)
    study.tell(trial, 0.5)
    leave(storage.engine, ledger.worker_id)
    assert sweep(storage.engine, stored.study_id, None) == 0
    assert storage.get_trial(trial._trial_id).state == TrialState.COMPLETE


def test_processes() -> None:
    assert process_lives(os.getpid())
    process = subprocess.Popen(["true"])
    time.sleep(0.2)  # it is a zombie now: nobody has waited for it
    assert not process_lives(process.pid)
    process.wait()
    assert not process_lives(process.pid)
