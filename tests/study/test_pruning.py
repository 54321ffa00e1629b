"""Hopeless trials of one objective are stopped by the pruner that the study file names."""

from statistics import median

import pytest

from nas.study.config import PrunerConfig
from nas.study.run.stop import StopFlag
from nas.study.run.worker import Worker
from nas.study.search.pruners import make_pruner
from nas.study.store.leases import put_back
from nas.study.store.optuna_storage import close_storage
from nas.study.store.reader import Study

from .test_rungs import EPOCHS, Planted, made, work

STARTUP, WARMUP = 6, 2


def searched(url: str, **pruner: object) -> Study:
    study = made(url, objectives={"val_accuracy": "maximize"}, pruner=pruner)
    work(study, Planted())
    return study


def test_the_median_pruner_stops_who_never_reached_the_median(url: str) -> None:
    trials = searched(url, name="median", startup_trials=STARTUP, warmup_epochs=WARMUP).trials()
    stopped = [t for t in trials if t.state == "pruned"]
    assert len(stopped) >= 4
    for trial in trials:
        assert trial.reason == ("median" if trial in stopped else None)
        done = [t for t in trials[: trial.number] if t.state == "complete"]
        if len(done) < STARTUP or trial.landmark:
            assert trial not in stopped
            continue
        best = 0.0
        for epoch in trial.epochs[: EPOCHS - 1]:
            best = max(best, epoch.val_accuracy)
            hopeless = best < median(t.epochs[epoch.epoch].val_accuracy for t in done)
            assert (epoch is trial.epochs[-1] and trial in stopped) == (hopeless and epoch.epoch + 1 >= WARMUP)


@pytest.mark.parametrize(("epochs", "expected"), [(1, 1), (3, 1), (5, 2), (8, 3), (9, 3), (30, 10)])
def test_nobody_is_stopped_in_the_first_third_unless_the_study_says_so(epochs: int, expected: int) -> None:
    assert make_pruner(PrunerConfig(), epochs)._n_warmup_steps == expected
    assert make_pruner(PrunerConfig(warmup_epochs=0), epochs)._n_warmup_steps == 0


@pytest.mark.parametrize("name", ["asha", "hyperband"])
def test_rungs_of_one_objective(url: str, name: str) -> None:
    trials = searched(url, name=name).trials()
    stopped = [t for t in trials if t.state == "pruned"]
    assert len(stopped) >= 8
    assert {t.reason for t in stopped} == {name}
    assert {len(t.epochs) for t in stopped} <= {1, 3}, "stopped at a rung"
    assert all(len(t.epochs) == EPOCHS for t in trials if t.state == "complete")


def test_an_epoch_that_is_run_again_is_judged_without_the_later_ones(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pruner = {"name": "median", "warmup_epochs": 2}
    study = made(url, objectives={"val_accuracy": "maximize"}, trials=2, pruner=pruner)
    work(study, Planted(), 1)  # the plain network, which no pruner is asked about
    killed = Worker(study, Planted(), stop=StopFlag())
    trial = killed._next_trial()
    assert trial is not None
    architecture = killed._architecture(trial)
    assert architecture is not None
    for epoch in range(4):
        record = Planted()._epoch(architecture, epoch)
        killed.ledger.record_epoch(trial._trial_id, killed.config.seed, record, report=record.val_accuracy)
    put_back(killed.storage.engine, trial._trial_id, killed.ledger.worker_id)
    close_storage(killed.storage)
    worker, asked = Worker(study, Planted(), stop=StopFlag()), list[int | None]()
    monkeypatch.setattr(worker.pruner, "prune", lambda _, trial: asked.append(trial.last_step))
    worker.run()
    assert asked == list(range(2, EPOCHS)), "nor is it asked while every trial may run"


def test_nobody_is_stopped_where_no_pruner_is_wanted(url: str) -> None:
    assert {t.state for t in searched(url, name="none").trials()} == {"complete"}
