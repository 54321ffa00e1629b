"""What a study optimises and refuses, as its file says it."""

import math
from pathlib import Path
from typing import Any

import pytest

from nas.errors import UserError
from nas.measurement import Cost, EpochRecord
from nas.study.config import StudyConfig
from nas.study.goals import Constraint, Objectives, holds, quantities
from nas.study.pareto import losses_of

PLAIN = {"params": 100.0, "latency_ms": 2.0}


def epoch(number: int, **values: float) -> EpochRecord:
    usual = {"train_loss": 1.0, "val_loss": 0.7, "val_accuracy": 0.5, "learning_rate": 0.1, "grad_norm": 1.0}
    return EpochRecord(**{"epoch": number, "train_s": 1.5, "val_s": 0.5, **usual, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value", "excess"),
    [
        ("params <= 12e1", 120.0, 0.0),
        ("params <= 120", 150.0, 0.25),
        ("params<=1.1*plain", 121.0, 0.1),
        ("latency_ms <= 1.5 * plain", 2.4, -0.2),
        ("val_accuracy >= 0.8", 0.6, 0.25),
    ],
)
def test_excess_is_a_share_of_the_bound(text: str, value: float, excess: float) -> None:
    limit = Constraint.parse(text)
    assert limit.excess({limit.quantity: value}, PLAIN) == pytest.approx(excess)


def test_a_constraint_is_stored_as_it_is_read() -> None:
    config = parsed(constraints=["params<=12000001", "latency_ms  <=  1.1*plain"])
    assert config.constraints == ("params <= 12000001", "latency_ms <= 1.1 * plain")
    assert not config.differences(config.to_dict())


def test_what_breaks_says_value_and_bound() -> None:
    limit = Constraint.parse("params <= 1.1 * plain")
    assert limit.broken_text({"params": 121.0}, PLAIN) == "params 121 > 110"


def test_quantities_are_those_after_the_last_epoch() -> None:
    cost = Cost(num_params=5, macs=7, latency_ms=1.5)
    known = quantities([epoch(0, val_accuracy=0.2), epoch(1, val_accuracy=0.4, val_top5=0.9)], cost)
    assert known == {
        "params": 5.0,
        "macs": 7.0,
        "latency_ms": 1.5,
        "val_accuracy": 0.4,
        "val_top5": 0.9,
        "val_loss": 0.7,
        "train_s": 3.0,
    }


def test_limits_that_are_answered_after_the_training() -> None:
    limits = [Constraint.parse("val_accuracy >= 0.8"), Constraint.parse("params <= 1")]
    assert holds(limits, {"val_accuracy": 0.9, "params": 5.0})  # params was asked before
    assert not holds(limits, {"val_accuracy": 0.7})
    assert not holds(limits, {})


def test_losses_are_turned_and_merit_too() -> None:
    goals = Objectives({"params": "minimize", "val_loss": "minimize", "val_accuracy": "maximize"})
    assert losses_of(goals, [(5.0, 0.5, 0.9)]).tolist() == [[5.0, 0.5, -0.9]]
    assert goals.leading == "val_loss"
    assert goals.merit(0.5) == -0.5
    assert losses_of(goals, []).shape == (0, 3)


def parsed(**content: Any) -> StudyConfig:
    return StudyConfig.parse({"name": "s", **content}, "study.yaml")


TWO = {"val_accuracy": "maximize", "latency_ms": "minimize"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"objectives": {"latency_ms": None}}, "objectives: latency_ms: expected a direction"),
        ({"objectives": {"latency_ms": "down"}}, "maximize or minimize, got 'down'"),
        ({"objectives": ["val_accuracy"]}, r"QUANTITY: maximize or QUANTITY: minimize on each line, got \['val_acc"),
        ({"objectives": {"latency_ms": "minimize"}}, "expected one of val_accuracy, .* got latency_ms"),
        ({"objectives": {"speed": "minimize", "val_loss": "minimize"}}, "objectives.speed.*got 'speed'"),
        ({"objectives": TWO, "pruner": {"name": "median"}}, "pruner.name: median knows one objective only"),
        ({"objectives": TWO, "pruner": {"name": "hyperband"}}, "expected asha or none"),
        ({"constraints": ["params < 3"]}, "expected QUANTITY <= NUMBER.*got 'params < 3'"),
        ({"constraints": ["weights <= 3"]}, "unknown quantity 'weights'"),
        ({"constraints": ["params <= many"]}, "got 'many' for the number"),
        ({"constraints": ["val_accuracy >= 1 * plain"]}, "can be limited relative to the plain network"),
    ],
)
def test_a_mistake_is_one_line(content: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        parsed(**content)
    assert str(error.value).startswith("study.yaml: ")
    assert "\n" not in str(error.value)


def test_several_objectives_have_a_pruner_that_knows_them() -> None:
    assert parsed(objectives=TWO).pruner.name == "asha"
    assert parsed(objectives=TWO, pruner={"min_epochs": 2}).pruner.name == "asha"
    assert parsed(objectives=TWO, pruner={"name": "none"}).pruner.name == "none"
    assert parsed().pruner.name == "median"


def test_several_objectives_have_a_sampler_of_their_own() -> None:
    assert parsed(objectives=TWO).sampler == "nsga2"
    assert parsed(objectives=TWO, sampler="tpe").sampler == "tpe"
    assert parsed().sampler == "tpe"


def test_what_has_to_be_known_before_a_training() -> None:
    assert parsed().known_costs == ()
    assert parsed(objectives=TWO, constraints=["params <= 5", "train_s <= 3"]).known_costs == ("params", "latency_ms")


def test_cheap_scores_are_ranked_by_accuracy_and_cost() -> None:
    goals = {"val_macro_f1": "maximize", "train_s": "minimize", "macs": "minimize"}
    config = parsed(objectives=goals, constraints=["train_s <= 9", "macs <= 2 * plain"], estimate="shared")
    scored = config.of_candidates(config.estimate)
    assert scored.objectives == {"val_accuracy": "maximize", "macs": "minimize"}
    assert scored.constraints == ("macs <= 2 * plain",)
    assert math.isfinite(scored.training.epochs)


def test_an_order_of_objectives_survives_the_database(tmp_path: Path) -> None:
    from nas.study.launch.create import create_study
    from tests.study.conftest import SUMMARY

    goals = {"params": "minimize", "val_accuracy": "maximize"}
    study = create_study(parsed(objectives=goals), "", f"sqlite:///{tmp_path / 'nas.db'}", lambda _: SUMMARY)
    assert study.settings.goals.names == ("params", "val_accuracy")
