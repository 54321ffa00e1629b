import numpy as np
import pytest
from scipy import stats

from nas.estimate.ranking import Estimate, against_rest, judge, of_one_scoring, ranks, regret, spearman, spread

BRIEF = {"by": "brief", "epochs": 2}


def planted(random: np.random.Generator, num: int = 40, seeds: int = 3, noise: float = 0.7):
    """Qualities (A,) of variance 1 and full trainings (A, S) that show them through seed noise."""
    quality = random.standard_normal(num)
    return quality, quality[:, None] + noise * random.standard_normal((num, seeds))


def correlated(quality: np.ndarray, rho: float, random: np.random.Generator) -> np.ndarray:
    return rho * quality + np.sqrt(1 - rho**2) * random.standard_normal(len(quality))


def test_ranks_and_correlation_equal_scipys_also_with_ties() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(6, size=(2, 30)).astype(float)
    np.testing.assert_allclose(ranks(a), stats.rankdata(a))
    np.testing.assert_allclose(spearman(a, b), stats.spearmanr(a, b).statistic)
    np.testing.assert_allclose(spearman(np.stack([a, b]), np.stack([b, b])), [spearman(a, b), 1.0])


def test_a_constant_score_correlates_with_nothing() -> None:
    assert spearman(np.ones(9), np.arange(9.0)) == 0.0


def test_variance_components_equal_those_of_an_analysis_of_variance() -> None:
    random = np.random.default_rng(1)
    _, truth = planted(random, num=30, seeds=4)
    found = spread(truth)
    oracle = stats.f_oneway(*truth)
    assert found.f_ratio == pytest.approx(oracle.statistic)
    within = truth.var(1, ddof=1).mean()
    between = truth.mean(1).var(ddof=1) - within / 4
    assert (found.seeds**2, found.architectures**2) == pytest.approx((within, between))
    assert found.reliability == pytest.approx(between / (between + within))


def test_the_permutation_test_agrees_with_the_f_distribution() -> None:
    random = np.random.default_rng(2)
    for noise in (3.0, 5.0, 8.0):
        _, truth = planted(random, num=20, noise=noise)
        assert spread(truth).p_value == pytest.approx(stats.f_oneway(*truth).pvalue, abs=0.03)


def test_the_ceiling_is_the_mean_correlation_of_a_run_with_the_mean_of_the_others() -> None:
    _, truth = planted(np.random.default_rng(3))
    wanted = [stats.spearmanr(truth[:, s], np.delete(truth, s, 1).mean(1)).statistic for s in range(3)]
    assert against_rest(truth, truth) == pytest.approx(np.mean(wanted))


def test_the_bootstrap_interval_holds_the_planted_correlation_in_most_cases() -> None:
    random = np.random.default_rng(4)
    rho = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's of a normal pair with Pearson's 0.6
    held = 0
    for _ in range(100):
        quality = random.standard_normal(40)
        interval = of_one_scoring(correlated(quality, 0.6, random)[:, None], quality, resamples=500)
        held += interval.low <= rho <= interval.high
    assert held >= 88


def test_what_is_told_of_one_of_several_scorings_does_not_hang_on_its_luck() -> None:
    random = np.random.default_rng(3)
    quality, truth = planted(random, num=60, noise=0.5)
    lucky, *others = (correlated(quality, rho, random) for rho in (0.9, 0.0, 0.0, 0.0))
    scores = np.stack([lucky, *others], axis=1)
    (found,) = judge(truth, 100.0, [Estimate(name="one", scores=scores, cost_s=1.0, settings=BRIEF)]).fidelities
    (alone,) = judge(truth, 100.0, [Estimate(name="one", scores=scores[:, :1], cost_s=1.0)]).fidelities
    each = [float(spearman(one, truth.mean(1))) for one in scores.T]
    assert found.correlation.value == pytest.approx(np.mean(each))
    assert found.correlation.low < min(each) < each[0] < found.correlation.high
    assert found.rest < 0.5 < alone.rest
    assert found.regret == pytest.approx(np.mean([regret(one, truth) for one in scores.T]))
    assert alone.trusted
    assert not found.trusted


def test_regret_counts_from_the_best_in_units_of_a_random_choice() -> None:
    truth = np.array([0.9, 0.8, 0.7, 0.6])
    assert regret(truth, truth) == 0.0
    assert regret(np.array([0.0, 1.0, 0.5, 0.2]), truth) == pytest.approx(0.1 / 0.15)
    assert regret(np.ones(4), truth) == pytest.approx(1.0)


def test_estimators_of_known_correlation_are_ranked_rightly() -> None:
    random = np.random.default_rng(5)
    right = 0
    for _ in range(40):
        quality, truth = planted(random)
        estimates = [
            Estimate(name=f"r{rho}", scores=correlated(quality, rho, random)[:, None], cost_s=cost, settings=BRIEF)
            for rho, cost in ((0.1, 1.0), (0.5, 2.0), (0.95, 3.0))
        ]
        found = {f.name: f.correlation.value for f in judge(truth, 100.0, estimates).fidelities}
        right += found["r0.1"] < found["r0.5"] < found["r0.95"]
    assert right >= 36


def test_the_cheapest_of_equally_good_scores_is_chosen() -> None:
    random = np.random.default_rng(6)
    quality, truth = planted(random, num=60, noise=0.5)
    good = correlated(quality, 0.95, random)[:, None]
    estimates = [
        Estimate(name="dear", scores=good, cost_s=50.0, settings=BRIEF),
        Estimate(name="cheap", scores=good, cost_s=5.0, settings=BRIEF),
        Estimate(name="noise", scores=random.standard_normal((60, 1)), cost_s=1.0, settings=BRIEF),
        Estimate(name="beyond", scores=truth.mean(1, keepdims=True), cost_s=100.0, settings=BRIEF),
        Estimate(name="for comparison", scores=truth.mean(1, keepdims=True), cost_s=2.0),
    ]
    found = judge(truth, 100.0, estimates)
    assert (found.choice, found.settings) == ("cheap", BRIEF)
    assert found.advice.startswith("use cheap: it ranks as well as a full run")
    assert "at 5 % of the cost" in found.advice


def test_differing_architectures_and_no_score_that_ranks_them() -> None:
    random = np.random.default_rng(7)
    _, truth = planted(random)
    found = judge(truth, 100.0, [Estimate(name="noise", scores=np.ones((40, 1)), cost_s=1.0, settings=BRIEF)])
    assert (found.choice, found.advice.split(":")[0]) == (None, "no cheap score can be trusted here")


@pytest.mark.parametrize(("num", "seeds"), [(8, 2), (24, 3), (40, 3)])
def test_pure_noise_is_called_noise(num: int, seeds: int) -> None:
    random = np.random.default_rng(8)
    called = sum(not spread(random.standard_normal((num, seeds)), resamples=500).differ for _ in range(200))
    assert called >= 190


def test_noise_with_a_network_that_broke_once_is_still_noise() -> None:
    random = np.random.default_rng(9)
    called = 0
    for _ in range(200):
        truth = 0.01 * random.standard_normal((24, 3)) + 0.9
        truth[0, 0] = 0.1
        called += not spread(truth, resamples=500).differ
    assert called >= 190


def test_the_advice_on_noise_says_that_a_search_is_not_worth_it() -> None:
    random = np.random.default_rng(10)
    truth = random.standard_normal((24, 3))
    found = judge(truth, 10.0, [Estimate(name="any", scores=truth.mean(1, keepdims=True), cost_s=1.0, settings=BRIEF)])
    assert found.choice is None
    assert found.advice.endswith("a search is not worth its cost")
