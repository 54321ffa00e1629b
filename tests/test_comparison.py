"""Paired comparisons: against textbook formulas, and on studies whose truth was planted."""

import math

import numpy as np
import pytest
from scipy import stats

from nas.comparison import POWER, bartlett, differences, image_variance, mean_of, seeds_needed
from nas.statistics import LEVEL, holm

RUNS = 1500


def test_two_networks_are_a_paired_t_test() -> None:
    scores = np.random.default_rng(0).normal(0.9, 0.01, (2, 6))
    scores[1] += np.linspace(0, 0.01, 6)
    (found,) = differences(scores, 0, [1])
    expected = stats.ttest_rel(scores[1], scores[0])
    assert (found.value, found.p_value) == pytest.approx((np.mean(scores[1] - scores[0]), expected.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p_adjusted == found.p_value


def test_networks_that_spread_alike_share_their_variance() -> None:
    """The error is the residual mean square of a least-squares fit of network + seed."""
    scores = np.random.default_rng(7).normal(0.9, 0.01, (5, 4)) + np.array([0, 0.05, -0.02, 0.01])
    A, S = scores.shape
    design = np.array([[*np.eye(A)[a], *np.eye(S)[s]] for a in range(A) for s in range(S)])
    left = scores.ravel() - design @ np.linalg.lstsq(design, scores.ravel())[0]
    error = math.sqrt(2 * (left @ left) / ((A - 1) * (S - 1)) / S)
    found = differences(scores, 2, [0, 4])
    assert [d.value for d in found] == pytest.approx((scores[[0, 4]] - scores[2]).mean(1).tolist())
    for difference in found:
        assert difference.p_value == pytest.approx(2 * stats.t.sf(abs(difference.value) / error, (A - 1) * (S - 1)))
        half = stats.t.ppf(1 - LEVEL / 4, (A - 1) * (S - 1)) * error
        assert (difference.low, difference.high) == pytest.approx((difference.value - half, difference.value + half))


def test_a_network_that_fails_once_does_not_hide_the_others() -> None:
    scores = np.random.default_rng(2).normal(0.9, 0.002, (6, 5))
    scores[1] += 0.02
    scores[5, 3] = 0.1
    (found,) = differences(scores, 0, [1])
    assert found.p_value == pytest.approx(stats.ttest_rel(scores[1], scores[0]).pvalue)
    assert found.found


def test_bartlett_and_holm_against_scipy() -> None:
    rows = np.random.default_rng(3).normal(size=(4, 7)) * np.array([[1], [1], [2], [3]])
    assert bartlett(rows) == pytest.approx(stats.bartlett(*rows).pvalue)
    assert bartlett(np.vstack([rows, np.zeros(7)])) == 0
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.6]) == [1, 1]


def test_a_mean_has_students_interval() -> None:
    scores = np.array([0.9, 0.92, 0.93])
    found = mean_of(scores)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 2, scores.mean(), stats.sem(scores)))


def test_the_variance_of_images_is_found_beside_that_of_seeds() -> None:
    """Two networks of which one is right more often on some images only."""
    random = np.random.default_rng(4)
    n, S = 4000, 8
    easier = random.random(n) < 0.3
    ours = random.random((S, n)) < np.where(easier, 0.95, 0.6)
    theirs = random.random((S, n)) < 0.6
    per_image = np.where(easier, 0.35, 0.0)
    assert image_variance(ours, theirs) == pytest.approx(per_image.var() / n, rel=0.15)
    assert image_variance(theirs, random.random((S, n)) < 0.6) == pytest.approx(0, abs=0.1 * per_image.var() / n)


def test_few_images_widen_the_interval() -> None:
    scores = np.random.default_rng(5).normal(0.9, 0.001, (2, 5)) + np.array([[0], [0.01]])
    (over_seeds,) = differences(scores, 0, [1])
    (over_both,) = differences(scores, 0, [1], [0.01**2])
    assert over_seeds.found
    assert not over_both.found
    assert over_both.seeds_needed is None
    (same,) = differences(np.full((2, 3), 0.9), 0, [1], [0.0])
    assert (same.p_value, same.seeds_needed) == (1.0, None)


def claims(effect: float, *, seeds: int, candidates: int = 1, spreads: float = 1.0, landmarks: int = 5) -> float:
    """Share of simulated confirmations that call the winner better than the plain network, or other without effect.

    Accuracies are network + seed + noise, the noise such that a paired difference has standard deviation 1;
    validation has the same noise of training and its own of images, and chooses the winner. ``effect`` is what the
    last candidate really has above all others.
    """
    random = np.random.default_rng(0)
    A = 1 + landmarks + candidates
    found = range(1 + landmarks, A)
    noise = random.standard_normal((RUNS, A, seeds)) / math.sqrt(2)
    noise[:, 0] *= spreads
    test = noise + random.standard_normal((RUNS, 1, seeds))
    test[:, -1] += effect
    val = test + 0.5 * random.standard_normal(test.shape)
    count = 0
    for scores, choosing in zip(test, val, strict=True):
        winner = int(np.argmax(choosing[list(found)].mean(1)))
        difference = differences(scores, 0, found)[winner]
        count += difference.found and (effect == 0 or difference.value > 0)
    return count / RUNS


@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("seeds", [3, 5])
def test_no_difference_is_claimed_where_there_is_none(candidates: int, seeds: int) -> None:
    assert claims(0, seeds=seeds, candidates=candidates) <= LEVEL


def test_a_standard_deviation_is_beyond_five_seeds() -> None:
    """No two-sided test at 5 % finds one with more than 61 %: that of a variance that is known."""
    bound = stats.norm.sf(stats.norm.ppf(1 - LEVEL / 2) - math.sqrt(5))
    assert bound == pytest.approx(0.61, abs=0.005)
    assert bound - 0.1 < claims(1, seeds=5) < bound
    assert 0.3 < claims(1, seeds=5, candidates=3) < bound


@pytest.mark.parametrize("candidates", [1, 3])
def test_the_seeds_that_are_said_to_be_needed_are_enough(candidates: int) -> None:
    needed = seeds_needed(1, 1, count=candidates)
    assert needed == {1: 8, 3: 11}[candidates]
    assert claims(1, seeds=needed + 1, candidates=candidates) >= POWER  # one more for Student's t
    assert claims(1, seeds=needed - 2, candidates=candidates) < POWER
    assert seeds_needed(0.5, 1, count=candidates) == pytest.approx(4 * needed, abs=4)
