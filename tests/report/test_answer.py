"""The best network beside the plain one and the landmarks."""

import pytest
from scipy import stats

from nas.report.answer import answer
from nas.study.records import Study

from .synthetic import record


class Stub:
    """What `answer` asks of a study."""

    name, url, num_val = "it's mine", "postgresql://me:secret@host/db", 360


@pytest.fixture
def stub() -> Study:
    return Stub()  # type: ignore[return-value]


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


def test_the_export_command_survives_a_shell_and_hides_the_password(stub: Study) -> None:
    expected = """nas export 'it'"'"'s mine' --storage 'postgresql://me:***@host/db' -o best.yaml"""
    assert answer(stub, ()).export == expected
