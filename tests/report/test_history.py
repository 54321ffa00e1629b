"""Scores over trials, what was spent and saved, and the front."""

import pytest

from nas.report.history import front, history, kind_of, spending, survivors
from nas.study.goals import Objectives

from .synthetic import event, record

ACCURACY = Objectives({"val_accuracy": "maximize"})
COMPLETE = record(0, 0.1, 0.2, 0.3, 0.4, 0.9)
STOPPED = record(1, 0.2, 0.3, state="pruned", reason="median")
BROKEN = record(2, 0.1, state="pruned", reason="loss-spike", events=(event(1.0),))
NEVER_RAN = record(3, state="fail", budget=None, score=None)
RUNNING = record(4, 0.95, state="running", budget=None)
REFUSED = record(5, state="pruned", reason="infeasible: params 9 > 5", budget=None)
ALL = (COMPLETE, STOPPED, BROKEN, NEVER_RAN, RUNNING)


def test_kinds() -> None:
    kinds = ["complete", "stopped", "unstable", "fail", "running", "infeasible"]
    assert [kind_of(t) for t in (*ALL, REFUSED)] == kinds


def test_only_complete_trials_raise_the_best() -> None:
    points = history((*ALL, record(5, 0.8), record(6, 0.92)), ACCURACY)
    assert [(p.trial, p.best_so_far) for p in points] == [(0, 0.9), (1, 0.9), (2, 0.9), (4, 0.9), (5, 0.9), (6, 0.92)]
    assert history((STOPPED,), ACCURACY)[0].best_so_far is None


@pytest.mark.parametrize(("direction", "best"), [("maximize", [2.0, 2.0, 3.0]), ("minimize", [2.0, 1.0, 1.0])])
def test_the_best_of_another_objective(direction: str, best: list[float]) -> None:
    goals = Objectives({"val_loss": direction})
    losses = (2.0, 1.0, 3.0)
    trials = [record(i, 0.5, values={"val_loss": loss}, merit=goals.merit(loss)) for i, loss in enumerate(losses)]
    broken = record(3, 0.5, state="pruned", values={"val_loss": float("nan")})
    out_of_bounds = record(4, 0.5, values={"val_loss": 0.0 if direction == "minimize" else 9.0}, merit=None)
    points = history((*trials, broken, out_of_bounds), goals)
    assert [p.value for p in points[:3]] == list(losses)
    assert [(p.trial, p.best_so_far) for p in points] == [*zip((0, 1, 2, 4), (*best, best[-1]), strict=True)]


def test_spending_counts_the_epochs_that_were_not_run() -> None:
    spent = spending(ALL)
    assert (spent.num_complete, spent.num_stopped, spent.num_unstable) == (1, 1, 1)
    assert (spent.epochs_run, spent.epochs_full, spent.epochs_saved) == (8, 15, 7)
    assert spent.saved_share == 7 / 15
    assert spent.saved_s == 7.0  # a second an epoch
    assert spent.train_s == 8.0
    assert spending(()).saved_share == 0
    assert spending((*ALL, REFUSED)) == spent


def test_survivors() -> None:
    assert survivors(ALL) == ((1, 4), (2, 2), (3, 1), (4, 1), (5, 1))
    long = record(0, *[0.5] * 100)
    shown = survivors((long, STOPPED))
    assert shown[0] == (1, 2)
    assert shown[-1] == (100, 1)
    assert len(shown) == 8
    assert survivors(()) == ()


def test_the_front_is_what_no_other_beats() -> None:
    trials = (
        record(0, 0.90, macs=100),
        record(1, 0.95, macs=200),
        record(2, 0.94, macs=300),
        record(3, 0.97, macs=400),
        record(4, 0.95, macs=200),
        record(5, 0.99, macs=50, state="pruned"),
    )
    found = front(trials)
    assert [t.number for t in found] == [0, 1, 3]
    for trial in trials[:5]:
        beaten = any(t.score >= trial.score and t.macs <= trial.macs for t in found)
        assert beaten
