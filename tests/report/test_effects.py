"""Marginal means and their intervals."""

import numpy as np
import pytest
from scipy import stats

from nas.architecture import StageFusion
from nas.report.effects import effects, half_widths

from .synthetic import P1_SE, architecture, record

P2_ECA = StageFusion(pattern="p2", attention="eca")
SWITCHED_OFF = StageFusion(pattern="p1", attention="se", lambda_init=0.0)


def test_intervals_are_those_of_an_analysis_of_variance() -> None:
    random = np.random.default_rng(0)
    groups = [random.normal(size=n).tolist() for n in (2, 5, 9)]
    squares = sum(((np.array(g) - np.mean(g)) ** 2).sum() for g in groups)
    expected = [stats.t.ppf(0.975, 13) * np.sqrt(squares / 13 / len(g)) for g in groups]
    assert half_widths(groups) == pytest.approx(expected, rel=1e-12)


def test_two_equal_scores_are_no_certainty_and_one_score_has_an_interval() -> None:
    equal, single, spread = half_widths([[0.9, 0.9], [0.8], [0.7, 0.9]])
    assert equal == spread > 0
    assert single == pytest.approx(equal * 2**0.5)
    assert half_widths([[0.9], [0.8]]) == [None, None]


def test_means_by_stage_and_option() -> None:
    records = (
        record(0, 0.90, architecture=architecture()),
        record(1, 0.92, architecture=architecture(SWITCHED_OFF)),
        record(2, 0.96, architecture=architecture(P1_SE, P2_ECA)),
        record(3, 0.94, architecture=architecture(P1_SE)),
        record(4, 0.10, architecture=architecture(P1_SE), state="pruned"),
        record(5, 0.99, architecture=architecture(P2_ECA), state="running"),
    )
    found = {(e.stage, e.option): e for e in effects(records, "pattern")}
    assert list(found) == [(1, "none"), (1, "p1"), (2, "none"), (2, "p2"), (3, "none"), (4, "none")]
    assert found[1, "none"].mean == pytest.approx(0.91)
    assert found[1, "p1"].mean == pytest.approx(0.95)
    assert (found[1, "p1"].num_trials, found[1, "p1"].num_complete) == (3, 2)
    assert found[2, "p2"].mean == 0.96
    assert found[1, "p1"].low < 0.95 < found[1, "p1"].high
    assert found[1, "p1"].total == pytest.approx(1.90)
    attention = {(e.stage, e.option) for e in effects(records, "attention")}
    assert attention == {(1, "none"), (1, "se"), (2, "none"), (2, "eca"), (3, "none"), (4, "none")}
    assert effects((), "pattern") == ()
