"""The best network beside the plain one and the landmarks."""

from dataclasses import replace

import pytest
from scipy import stats

from nas.report.answer import answer
from nas.study.config import StudyConfig
from nas.study.records import TrialRecord
from nas.study.store.reader import Study

from .synthetic import EPOCHS, record


class Stub:
    """What `answer` asks of a study."""

    name, url, num_val = "it's mine", "postgresql://me:secret@host/db", 360

    def __init__(self, **keys: object) -> None:
        self.settings = StudyConfig.parse({"name": "s", **keys}, "stub")


@pytest.fixture
def stub() -> Study:
    return Stub()  # type: ignore[return-value]


TWO = {"objectives": {"val_accuracy": "maximize", "params": "minimize"}}


def test_best_first_then_landmarks_from_high_to_low(stub: Study) -> None:
    records = (
        record(0, 0.90, landmark="plain"),
        record(1, 0.95, landmark="se-post"),
        record(2, 0.93, state="pruned", landmark="se-pre"),
        record(3, 0.92),
        record(4, 0.96, num_params=110),
        record(5, 0.99, state="pruned"),
    )
    found = answer(stub, records)
    assert found.best is records[4]
    assert [(c.label, c.trial, c.is_best) for c in found.contenders] == [
        ("best", 4, True),
        ("se-post", 1, False),
        ("se-pre", 2, False),
        ("plain", 0, False),
    ]
    assert found.winner is found.contenders[0]
    assert found.winner.above_plain == pytest.approx(0.06)
    expected = stats.binomtest(342, 360).proportion_ci(method="wilson")
    assert (found.contenders[1].low, found.contenders[1].high) == pytest.approx((expected.low, expected.high), abs=1e-5)
    assert found.headline == (
        "The best of 4 complete trials scored 0.9600, 6.00 points above the plain network; their intervals do not meet."
    )
    assert "360 validation images" in found.note


def test_overlapping_intervals_are_said_to_overlap(stub: Study) -> None:
    found = answer(stub, (record(0, 0.95, landmark="plain"), record(1, 0.96)))
    assert found.headline.endswith("1.00 points above the plain network; their intervals overlap.")


def test_where_plain_is_best(stub: Study) -> None:
    found = answer(stub, (record(0, 0.95, landmark="plain"), record(1, 0.94)))
    assert [c.label for c in found.contenders] == ["plain"]
    assert "it is the plain network itself" in found.headline


def test_before_anything_is_known(stub: Study) -> None:
    assert answer(stub, ()).headline == "No trial is complete yet."
    waiting = record(0, state="waiting", landmark="plain")
    assert answer(stub, (waiting, record(1, 0.9))).headline.endswith("the plain network has no score yet.")


def test_a_plain_network_that_was_stopped_is_no_yardstick(stub: Study) -> None:
    stopped = record(0, 0.2, 0.3, state="pruned", landmark="plain", reason="chance-level")
    records = (stopped, record(1, 0.9, landmark="se-post"), record(2, 0.8, state="pruned", landmark="se-pre"))
    found = answer(stub, records)
    said = f"stopped after 2 of {EPOCHS} epochs (chance-level), so nothing can be compared with it."
    assert found.headline.endswith(said)
    assert [c.above_plain for c in found.contenders] == [None, None, None]
    full = (replace(stopped, state="complete"), *records[1:])
    assert [c.above_plain for c in answer(stub, full).contenders] == [pytest.approx(0.6), None, 0]


def test_the_export_command_survives_a_shell_and_hides_the_password(stub: Study) -> None:
    expected = """nas export 'it'"'"'s mine' --storage 'postgresql://me:***@host/db' -o best.yaml"""
    assert answer(stub, ()).export == expected
    assert answer(stub, (), confirmed=True).export == expected.replace("-o best", "--trial confirmed -o best")


def valued(number: int, accuracy: float, params: float, **fields: object) -> TrialRecord:
    return record(number, accuracy, values={"val_accuracy": accuracy, "params": params}, **fields)


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        (
            (0.90, 5.0),
            "3 networks that none beats in every objective (val_accuracy ↑, params ↓), of 3 complete trials; ",
        ),
        ((0.90, 5.0), "; the plain network is one of them."),
        ((0.90, 6.0), "2 networks that none beats"),
        ((0.90, 6.0), "; 1 of them is at least as good as the plain network in all."),
        ((0.80, 9.0), "; 2 of them are at least as good as the plain network in all."),
    ],
)
def test_the_answer_of_several_objectives_is_a_front(plain: tuple[float, float], said: str) -> None:
    study: Study = Stub(**TWO)  # type: ignore[assignment]
    records = (valued(0, *plain, landmark="plain"), valued(1, 0.95, 8.0), valued(2, 0.92, 6.0))
    found = answer(study, records)
    assert said in found.headline
    assert found.best is records[1]
    assert found.export.endswith(" --trial front -o front")


def test_of_equally_accurate_networks_the_cheaper_one_is_best() -> None:
    study: Study = Stub(**TWO)  # type: ignore[assignment]
    records = (valued(0, 0.95, 8.0), valued(1, 0.95, 5.0), valued(2, 0.95, 5.0), valued(3, 0.90, 1.0))
    assert answer(study, records).best is records[1]


def test_a_front_without_plain() -> None:
    study: Study = Stub(**TWO)  # type: ignore[assignment]
    assert answer(study, ()).headline == "No trial is complete yet."
    running = valued(0, 0.5, 1.0, state="running", landmark="plain")
    found = answer(study, (running, valued(1, 0.9, 8.0)))
    assert found.headline.startswith("1 network that none beats")
    assert found.headline.endswith("; the plain network has no score yet.")
    broken = valued(0, 0.5, 1.0, merit=None, landmark="plain")
    assert answer(study, (broken, valued(1, 0.9, 8.0))).headline.endswith("; the plain network breaks a constraint.")


def test_another_objective_leads() -> None:
    study: Study = Stub(objectives={"val_loss": "minimize"})  # type: ignore[assignment]

    def lost(number: int, loss: float, **fields: object) -> TrialRecord:
        return record(number, 0.9, values={"val_loss": loss}, merit=-loss, **fields)

    plain = lost(0, 0.5, landmark="plain")
    best = "The best of 2 complete trials has val_loss 0.2500, the plain network 0.5000."
    assert answer(study, (plain, lost(1, 0.25))).headline == best
    assert "it is the plain network itself" in answer(study, (plain, lost(1, 0.75))).headline
    assert answer(study, (lost(1, 0.75),)).headline.endswith("; the plain network has no score yet.")
