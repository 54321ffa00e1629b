"""The front beside plain, what the rungs stopped and what constraints kept from training."""

import pytest

from nas.measurement import Cost
from nas.report.front import SHOWN, Front, Limit, Rung, front, limits, rungs
from nas.report.page import read_report
from nas.study.goals import Constraint, Objectives
from nas.study.records import TrialRecord
from nas.study.store.reader import Study

from .synthetic import record

GOALS = Objectives({"latency_ms": "minimize", "val_accuracy": "maximize", "params": "minimize"})


def valued(number: int, accuracy: float, latency: float, params: int, **fields: object) -> TrialRecord:
    cost = Cost(
        num_params=params,
        macs=1,
        latency_ms=latency,
        latency_low_ms=latency - 0.25,
        latency_high_ms=latency + 0.5,
    )
    values = {"latency_ms": latency, "val_accuracy": accuracy, "params": float(params)}
    return record(number, accuracy, cost=cost, values=values, **fields)


PLAIN = valued(0, 0.80, 1.0, 1000, landmark="plain")
BETTER = valued(1, 0.85, 2.0, 1100)
STOPPED = valued(2, 0.99, 0.5, 900, state="pruned", reason="asha")


def read(found: Front) -> list[tuple[int, str, bool]]:
    return [(m.trial, m.label, m.on_front) for m in found.members]


def test_members_best_in_the_leading_objective_first() -> None:
    found = front((PLAIN, BETTER, STOPPED, valued(3, 0.84, 3.0, 1200)), GOALS)
    assert (found.leading, found.others) == ("val_accuracy", ("latency_ms", "params"))
    assert found.heads == ("latency_ms ↓", "val_accuracy ↑", "params ↓")
    assert read(found) == [(1, "", True), (0, "plain", True)]
    texts = [(r.text, r.spread_text, r.against_plain) for r in found.members[0].readings]
    assert texts == [
        ("2", "1.75 to 2.5", "+100.0 %"),
        ("0.8500", "", "+5.00 points"),
        ("1,100", "", "+10.0 %"),
    ]
    assert {r.against_plain for r in found.members[1].readings} == {""}
    assert [r.text for r in found.best] == ["1", "0.8500", "1,000"]


def test_plain_stands_below_a_front_that_beats_it() -> None:
    found = front((PLAIN, valued(1, 0.85, 0.5, 900)), GOALS)
    assert read(found) == [(1, "", True), (0, "plain", False)]
    assert (found.trials, found.num_hidden) == ((1,), 0)


@pytest.mark.parametrize("state", ["running", "pruned", "waiting"])
def test_plain_is_nothing_to_compare_with_before_it_is_complete(state: str) -> None:
    plain = record(0, state=state, landmark="plain")
    found = front((plain, BETTER), GOALS)
    assert read(found) == [(1, "", True)]
    assert found.members[0].readings[0].plain is None
    assert front((plain,), GOALS).best == ()


def test_a_long_front_is_cut() -> None:
    records = (PLAIN, *(valued(i, 0.8 + i / 1000, 1.0 + i, 1000) for i in range(1, 60)))
    found = front(records, GOALS)
    assert len(found.trials) == 60
    assert [m.trial for m in found.members] == [*range(59, 59 - SHOWN, -1)]
    assert found.num_hidden == 60 - SHOWN


def test_a_loss_differs_in_percent() -> None:
    goals = Objectives({"val_loss": "minimize", "params": "minimize"})
    plain = record(0, 0.5, values={"val_loss": 0.5, "params": 5.0}, merit=-0.5, landmark="plain")
    found = front((plain, record(1, 0.5, values={"val_loss": 0.25, "params": 6.0}, merit=-0.25)), goals)
    assert found.members[0].readings[0].against_plain == "-50.0 %"


def test_rungs_count_what_came_and_what_went_on() -> None:
    records = [record(0, *[0.5] * 9), record(1, *[0.5] * 3), record(2, 0.5), record(3, 0.5, 0.5), record(4)]
    assert rungs(records, (1, 3), {(0, 1), (0, 3), (1, 1)}) == (
        Rung(epochs=1, num_reached=4, num_further=3, num_promoted=2),
        Rung(epochs=3, num_reached=2, num_further=1, num_promoted=1),
    )


def test_limits_count_what_they_kept_out() -> None:
    """One that is known before training is asked of all that were drawn, the other of those that are complete."""
    texts = ("params <= 1050", "params >= 950", "latency_ms <= 5 * plain", "val_accuracy >= 0.82")
    constraints = [Constraint.parse(text) for text in texts]
    refused = ("infeasible: params 1100 > 1050", "infeasible: params 900 < 950", "infeasible: params 910 < 950")
    records = [PLAIN, BETTER, STOPPED]
    records += [
        valued(3 + i, 0.5, 1.0, 1, state="pruned", reason=reason, score=None) for i, reason in enumerate(refused)
    ]
    assert limits(records, constraints) == (
        Limit(constraint="params <= 1050", known_before=True, num_asked=6, num_broken=1),
        Limit(constraint="params >= 950", known_before=True, num_asked=6, num_broken=2),
        Limit(constraint="latency_ms <= 5 * plain", known_before=True, num_asked=6, num_broken=0),
        Limit(constraint="val_accuracy >= 0.82", known_before=False, num_asked=2, num_broken=1),
    )


def test_a_stored_study(several: Study, study: Study) -> None:
    found = read_report(several)
    assert found.front is not None
    assert found.front.trials == tuple(t.number for t in several.front())
    plain = next(m for m in found.front.members if m.label == "plain")
    assert plain.on_front  # the fastest and the smallest
    assert [rung.epochs for rung in found.rungs] == [1, 3]
    assert found.rungs[0].num_promoted == 1
    assert [(limit.num_broken, limit.num_asked) for limit in found.limits[:2]] == [(4, 100), (0, 100)]
    assert 0 < found.limits[2].num_broken < found.limits[2].num_asked
    assert not any("infeasible" in reason for reason, _ in found.instability.reasons)
    for rows in found.effects.values():
        ran = sum(t.architecture is not None and t.state != "waiting" and t.refused is None for t in found.records)
        assert sum(row.num_trials for row in rows if row.stage == 1) <= ran
    alone = read_report(study)
    assert (alone.front, alone.rungs, alone.limits, alone.columns) == (None, (), (), ())
