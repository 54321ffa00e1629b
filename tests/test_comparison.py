"""Paired comparisons: against textbook formulas, and on studies whose truth was planted."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nas.comparison import POWER, Comparison, bartlett, differences, image_variance, mean_of, seeds_needed
from nas.statistics import LEVEL, holm, p_text

RUNS = 1500
DRAWS = 20_000


def one(
    *, value: float, variance: float = 1.0, num_networks: int = 2, from_images: float = 0.0, num_seeds: int = 3
) -> Comparison:
    """A comparison of so many seeds."""
    return Comparison(
        value=value, variance=variance, num_networks=num_networks, from_images=from_images, num_seeds=num_seeds
    )


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


def simulated(comparison: Comparison, *, count: int, num_seeds: int) -> float:
    """Share of `DRAWS` tests that find the difference, on its side, with the variances as they are given.

    Drawn as the layout has it, by formulas of its own: scores are network + seed + noise, the mean of all
    differences has an error of its own from the images.
    """
    random = np.random.default_rng(num_seeds)
    A, S = comparison.num_networks, num_seeds
    noise = random.normal(0, math.sqrt(comparison.variance / 2), (DRAWS, A, S))
    noise += random.standard_normal((DRAWS, 1, S))
    means = noise.mean(2, keepdims=True)
    left = noise - means - noise.mean(1, keepdims=True) + noise.mean((1, 2), keepdims=True)
    variance = 2 * (left**2).sum((1, 2)) / ((A - 1) * (S - 1))
    images = random.normal(0, math.sqrt(comparison.from_images), DRAWS)
    value = comparison.value + means[:, 1, 0] - means[:, 0, 0] + images
    square = variance / S + comparison.from_images
    freedom = (A - 1) * (S - 1) * (square / (variance / S)) ** 2
    return float((value / np.sqrt(square) > stats.t.ppf(1 - LEVEL / 2 / count, freedom)).mean())


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("num_networks", [2, 9])
@pytest.mark.parametrize("value", [0.5, 1.0, 2.0])
def test_the_seeds_that_are_said_to_be_needed_find_the_difference(value: float, num_networks: int, count: int) -> None:
    """The least number of seeds whose share is 80 %, where one seed less falls short, within four standard errors."""
    comparison = one(value=value, num_networks=num_networks)
    needed = seeds_needed(comparison, count)
    assert needed is not None
    error = 4 * math.sqrt(POWER * (1 - POWER) / DRAWS)
    assert simulated(comparison, count=count, num_seeds=needed) >= POWER - error
    assert needed == 2 or simulated(comparison, count=count, num_seeds=needed - 1) <= POWER + error
    for num_seeds in {2, 5, needed}:
        power = replace(comparison, num_seeds=num_seeds).power(count)
        assert power == pytest.approx(simulated(comparison, count=count, num_seeds=num_seeds), abs=error)


def test_three_seeds_are_not_enough_where_six_are() -> None:
    """The normal distribution says 3: z = 1.96 + 0.84 of a difference of 1.65 standard deviations."""
    assert math.ceil((stats.norm.ppf(0.975) + stats.norm.ppf(POWER)) ** 2 / 1.65**2) == 3
    assert seeds_needed(one(value=1.65), 1) == 6
    assert simulated(one(value=1.65), count=1, num_seeds=3) < 0.5


@pytest.mark.parametrize("from_images", [0.02, 0.08])
def test_images_are_part_of_what_is_needed(from_images: float) -> None:
    """Satterthwaite's degrees of freedom are an approximation: within two points of the simulated share."""
    comparison = one(value=1.0, from_images=from_images, num_networks=4)
    needed = seeds_needed(comparison, 1)
    assert needed is not None
    assert needed > seeds_needed(replace(comparison, from_images=0.0), 1)
    power = replace(comparison, num_seeds=needed).power(1)
    assert power == pytest.approx(simulated(comparison, count=1, num_seeds=needed), abs=0.02)
    few = replace(comparison, from_images=0.2)
    assert seeds_needed(few, 1) is None
    assert replace(few, num_seeds=10**6).power(1) < POWER


def test_the_winner_is_chosen_too() -> None:
    """Among three found networks validation has to choose the right one first, which may take a seed more."""
    needed = seeds_needed(one(value=1.0, num_networks=9), 3)
    assert needed == 11
    assert claims(1, seeds=needed + 1, candidates=3) >= POWER
    assert claims(1, seeds=needed - 2, candidates=3) < POWER


comparisons = st.builds(
    one,
    value=st.floats(1e-4, 1),
    variance=st.floats(1e-8, 1),
    num_networks=st.integers(2, 20),
    from_images=st.just(0.0) | st.floats(1e-9, 1e-2),
    num_seeds=st.integers(2, 30),
)


@settings(deadline=None)
@given(comparisons, st.integers(1, 10))
def test_a_number_that_was_run_is_not_what_it_would_take(comparison: Comparison, count: int) -> None:
    """Where nothing was found, the statistic lies below the critical value: as many seeds have a chance below 80 %."""
    difference = comparison.difference(count)
    if not difference.found and difference.seeds_needed is not None:
        assert difference.seeds_needed > comparison.num_seeds


@settings(deadline=None)
@given(comparisons, st.integers(1, 10), st.floats(1, 3))
def test_more_seeds_find_more_and_small_or_many_differences_take_more(
    comparison: Comparison, count: int, factor: float
) -> None:
    more = replace(comparison, num_seeds=comparison.num_seeds + 1)
    assert more.power(count) >= comparison.power(count) - 1e-9
    needed = seeds_needed(comparison, count) or math.inf
    assert (seeds_needed(replace(comparison, value=factor * comparison.value), count) or math.inf) <= needed
    assert (seeds_needed(replace(comparison, variance=factor * comparison.variance), count) or math.inf) >= needed
    assert (seeds_needed(comparison, count + 1) or math.inf) >= needed


def test_what_does_not_vary_is_not_known() -> None:
    (same,) = differences(np.full((2, 3), 0.5), 0, [1])
    assert (same.p_value, same.seeds_needed, same.found) == (1.0, None, False)
    (apart,) = differences(np.array([[0.5] * 3, [0.75] * 3]), 0, [1])
    assert (apart.value, apart.seeds_needed, apart.found) == (0.25, None, False)
    assert (apart.low, apart.high) == (-1, 1)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 9), st.integers(2, 8), st.floats(0, 4), st.booleans())
def test_a_difference_is_claimed_where_its_interval_leaves_out_zero(
    seed: int, num_networks: int, num_seeds: int, effect: float, images: bool
) -> None:
    random = np.random.default_rng(seed)
    scores = 0.5 + 0.01 * (
        random.standard_normal((num_networks, num_seeds)) + effect * random.random((num_networks, 1))
    )
    variances = (1e-4 * random.random(num_networks - 1)).tolist() if images else None
    for difference in differences(scores, 0, range(1, num_networks), variances):
        assert difference.found == (difference.low > 0 or difference.high < 0)
        assert difference.low <= difference.value <= difference.high
        assert difference.p_adjusted == pytest.approx(min(1, (num_networks - 1) * difference.p_value))


@settings(deadline=None)
@given(st.floats(1e-12, 1) | st.floats(LEVEL - 1e-4, LEVEL + 1e-4))
def test_a_printed_p_value_lies_on_its_side_of_the_level(p: float) -> None:
    assert (float(p_text(p)) <= LEVEL) == (p <= LEVEL)


def test_a_p_value_has_two_digits_where_they_tell() -> None:
    assert [p_text(p) for p in (0.0001234, 0.05, 0.0503, 0.05003, 1.0)] == ["0.00012", "0.05", "0.0503", "0.05003", "1"]
