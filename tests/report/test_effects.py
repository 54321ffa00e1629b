"""Marginal means and their intervals."""

import numpy as np
import pytest
from scipy import stats

from nas.architecture import StageFusion
from nas.report.effects import effects, half_widths, importances

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


def test_importance_is_that_of_a_one_way_analysis() -> None:
    random = np.random.default_rng(1)
    groups = {
        fusion: random.normal(mean, 1, size) for fusion, mean, size in ((None, 0, 7), (P1_SE, 2, 5), (P2_ECA, 0, 9))
    }
    trials = [
        record(number, float(score), architecture=architecture(*([fusion] if fusion else [])))
        for number, (fusion, score) in enumerate((f, s) for f, scores in groups.items() for s in scores)
    ]
    found = {(i.stage, i.choice): i for i in importances((*trials, record(99, 50.0, state="pruned")))}
    test = stats.f_oneway(*groups.values())
    count, between = 21, 2
    expected = between * (test.statistic - 1) / (between * (test.statistic - 1) + count)
    assert set(found) == {(1, "pattern"), (1, "attention")}  # the other stages never differ
    assert found[1, "pattern"].share == pytest.approx(expected)
    assert found[1, "pattern"].p_value == pytest.approx(test.pvalue)


def test_what_does_nothing_explains_nothing_on_average() -> None:
    random = np.random.default_rng(2)
    shares, beyond = [], 0
    for _ in range(200):
        trials = [
            record(n, s, architecture=architecture(*[P1_SE] * (n % 2))) for n, s in enumerate(random.normal(size=30))
        ]
        (pattern, _) = importances(trials)
        shares.append(pattern.share)
        beyond += pattern.p_value < 0.05
    assert np.mean(shares) < 0.03
    assert 2 <= beyond <= 20


def test_importance_needs_more_trials_than_options_and_scores_that_differ() -> None:
    two = [record(0, 0.9), record(1, 0.8, architecture=architecture(P1_SE))]
    assert importances(two) == ()
    assert importances([record(n, 0.9, architecture=architecture(*[P1_SE] * (n % 2))) for n in range(6)]) == ()
    exact = [record(n, 0.75 - 0.25 * (n % 2), architecture=architecture(*[P1_SE] * (n % 2))) for n in range(6)]
    assert [(i.share, i.p_value) for i in importances(exact)] == [(1.0, 0.0)] * 2
