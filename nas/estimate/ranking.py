"""How well a score ranks architectures, and whether there is anything to rank. Plain numpy and scipy.

Shapes: A architectures, S seeds of full training. ``truth`` is (A, S): final validation accuracies.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from nas.estimate.predictor import Predictor, Values

RESAMPLES = 2000
SIGNIFICANCE = 0.01
"""Largest p-value at which architectures count as different: noise alone passes in one calibration of a hundred."""
AS_GOOD = 0.05
"""Correlations closer than this count as equal, and the cheaper score is taken."""
TRUSTED = 0.95
"""Share of the bootstrap inside an interval."""


def ranks(values: Values) -> Values:
    """Ranks from 1 along the last axis of (..., A); equal values share their mean rank."""
    return np.asarray(rankdata(values, axis=-1), np.float64)


def spearman(a: Values, b: Values) -> Values:
    """Rank correlation along the last axis of two (..., A); 0 where one of them is constant."""
    x, y = (r - r.mean(-1, keepdims=True) for r in (ranks(a), ranks(b)))
    size = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return np.where(size > 0, (x * y).sum(-1) / np.where(size > 0, size, 1.0), 0.0)


def against_rest(scores: Values, truth: Values) -> Values:
    """Mean over the seeds s of the correlation of ``scores`` (..., A, S)[s] with the mean of the other seeds.

    ``truth`` is (..., A, S). With ``scores = truth`` this is what one full run is worth: the ceiling for a score
    that costs less, but for luck.
    """
    seeds = truth.shape[-1]
    rest = (truth.sum(-1, keepdims=True) - truth) / (seeds - 1)
    return np.asarray(np.mean([spearman(scores[..., s], rest[..., s]) for s in range(seeds)], axis=0))


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """A rank correlation with its bootstrap interval over architectures."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrapped(
    statistic: Callable[[Values, Values], Values], scores: Values, truth: Values, *, resamples: int = RESAMPLES
) -> Correlation:
    """``statistic(scores, truth)`` of arrays whose first axis is A, with its percentile interval.

    Resamples draw architectures with replacement (B. Efron, Bootstrap methods, 1979).
    """
    A = len(truth)
    drawn = np.random.default_rng(0).integers(A, size=(resamples, A))
    return _with_interval(statistic(scores[None], truth[None])[0], statistic(scores[drawn], truth[drawn]))


def of_one_scoring(scorings: Values, truth: Values, *, resamples: int = RESAMPLES) -> Correlation:
    """What one of R equally good ``scorings`` (A, R) correlates with ``truth`` (A,) on average, with its interval.

    Resamples draw architectures and a scoring: the luck of that one is in the interval too.
    """
    A, R = scorings.shape
    random = np.random.default_rng(0)
    drawn, which = random.integers(A, size=(resamples, A)), random.integers(R, size=(resamples, 1))
    return _with_interval(spearman(scorings.T, truth).mean(), spearman(scorings[drawn, which], truth[drawn]))


def _with_interval(value: Any, resampled: Values) -> Correlation:
    tail = 100 * (1 - TRUSTED) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Correlation(value=float(value), low=float(low), high=float(high))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One-way random effects: how much of the spread of scores lies between architectures."""

    architectures: float
    """Standard deviation between architectures without seed noise, in units of the score."""
    seeds: float
    """Standard deviation between the seeds of one architecture."""
    reliability: float
    """Intraclass correlation of one run: share of the variance that lies between architectures."""
    f_ratio: float
    """Mean square between architectures over that within them."""
    p_value: float
    """Share of random regroupings of all runs with such an F ratio or a higher one."""

    @property
    def differ(self) -> bool:
        """Whether architectures differ above seed noise."""
        return self.p_value <= SIGNIFICANCE


def spread(truth: Values, *, resamples: int = RESAMPLES) -> Spread:
    """Variance components of ``truth`` (A, S) and the permutation test of the F ratio.

    Shuffling runs over architectures needs no normal distribution: one network that broke is not mistaken for
    many that differ.
    """
    seeds = truth.shape[1]
    between, within = (float(v) for v in _mean_squares(truth))
    random = np.random.default_rng(0)
    shuffled = random.permuted(np.broadcast_to(truth.ravel(), (resamples, truth.size)), axis=1)
    # For a fixed total, F rises with the mean square between architectures: that one is compared.
    above = _mean_squares(shuffled.reshape(resamples, *truth.shape))[0] >= between * (1 - 1e-12)
    differences = max(0.0, (between - within) / seeds)
    total = differences + within
    return Spread(
        architectures=math.sqrt(differences),
        seeds=math.sqrt(within),
        reliability=differences / total if total else 0.0,
        f_ratio=between / within if within else math.inf if between else 0.0,
        p_value=(1 + int(above.sum())) / (1 + resamples),
    )


def _mean_squares(truth: Values) -> tuple[Values, Values]:
    """Between and within architectures, of (..., A, S)."""
    A, seeds = truth.shape[-2:]
    means = truth.mean(-1)
    between = seeds * ((means - means.mean(-1, keepdims=True)) ** 2).sum(-1) / (A - 1)
    within = ((truth - means[..., None]) ** 2).sum((-2, -1)) / (A * (seeds - 1))
    return between, within


def regret(scores: Values, truth: Values) -> float:
    """What the winner by ``scores`` (A,) lacks to the best, relative to what a random choice lacks; 0 to above 1.

    Of several winners with one score, the mean. ``truth`` (A,) or (A, S).
    """
    values = truth.mean(1) if truth.ndim > 1 else truth
    lacking = float(values.max() - values.mean())
    won = float(values[scores == scores.max()].mean())
    return (float(values.max()) - won) / lacking if lacking > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one estimator at one budget says of the A architectures."""

    name: str
    """Estimator and budget, as a study file would ask for it."""
    scores: Values
    """(A, R): scorings, higher is better. What is told of them is told of one, and holds on average."""
    cost_s: float
    """Seconds to score all A once."""
    of_truth: bool = False
    """Whether column s stems from the truth's own run with seed s, and is held against the other seeds."""
    settings: Mapping[str, Any] | None = None
    """How a study file asks for it under `estimate`; None: it is measured for comparison, and never chosen."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How one estimator at one budget ranks."""

    name: str
    correlation: Correlation
    """With the mean of full training; where the scores come from its own runs, with the mean of the other seeds."""
    rest: float
    """With the mean of full training without one seed, over the seeds: to be held against the ceiling."""
    regret: float
    """Of its winner, relative to a random choice."""
    cost_s: float
    cost_share: float
    """Of training every architecture in full once."""
    settings: Mapping[str, Any] | None
    """As in `Estimate`."""

    @property
    def trusted(self) -> bool:
        """Whether the interval leaves no room for a score that ranks nothing."""
        return self.correlation.low > 0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether architectures differ, which score ranks them at which cost, and what to do."""

    num_architectures: int
    num_seeds: int
    spread: Spread
    ceiling: Correlation
    """One full run against the mean of the other seeds."""
    ceiling_regret: float
    """Of the winner of one full run, judged by the other seeds."""
    full_s: float
    """Seconds to train every architecture in full once."""
    fidelities: tuple[Fidelity, ...]
    """By cost."""
    choice: str | None
    """Name of the estimator to use; None where architectures do not differ or nothing cheap can be trusted."""
    advice: str
    """One sentence."""
    predictor: Predictor | None = None
    """Fitted to the full trainings."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What to write under `estimate` in the study file: full training where no cheap score is chosen."""
        chosen = (f.settings for f in self.fidelities if f.name == self.choice and f.settings)
        return next(chosen, {"by": "full"})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON can hold them."""
        return {**asdict(self), "settings": dict(self.settings)}


def judge(truth: Values, full_s: float, estimates: Sequence[Estimate]) -> Calibration:
    """Measure every estimate against ``truth`` (A, S) and say what to use; ``full_s`` as in `Calibration`."""
    found = spread(truth)
    ceiling = bootstrapped(against_rest, truth, truth)
    fidelities = sorted((_fidelity(e, truth, full_s) for e in estimates), key=lambda f: f.cost_s)
    choice = _chosen(fidelities) if found.differ else None
    return Calibration(
        num_architectures=truth.shape[0],
        num_seeds=truth.shape[1],
        spread=found,
        ceiling=ceiling,
        ceiling_regret=_regret_of_runs(truth, truth),
        full_s=full_s,
        fidelities=tuple(fidelities),
        choice=choice.name if choice else None,
        advice=_advice(found, ceiling, choice),
    )


def _regret_of_runs(scores: Values, truth: Values) -> float:
    """Mean over the seeds of the regret of ``scores`` (A, S)[s], judged by the other seeds."""
    seeds = range(truth.shape[1])
    return float(np.mean([regret(scores[:, s], np.delete(truth, s, axis=1)) for s in seeds]))


def _fidelity(estimate: Estimate, truth: Values, full_s: float) -> Fidelity:
    scores = estimate.scores
    if estimate.of_truth:
        correlation = bootstrapped(against_rest, scores, truth)
        rest, lost = correlation.value, _regret_of_runs(scores, truth)
    else:
        correlation = of_one_scoring(scores, truth.mean(1))
        rest = float(np.mean([against_rest(np.broadcast_to(one[:, None], truth.shape), truth) for one in scores.T]))
        lost = float(np.mean([regret(one, truth) for one in scores.T]))
    return Fidelity(
        name=estimate.name,
        correlation=correlation,
        rest=rest,
        regret=lost,
        cost_s=estimate.cost_s,
        cost_share=estimate.cost_s / full_s,
        settings=estimate.settings,
    )


def _chosen(fidelities: Sequence[Fidelity]) -> Fidelity | None:
    """The cheapest of those that rank about as well as the best, among what can be trusted and costs less."""
    usable = [f for f in fidelities if f.settings and f.trusted and f.cost_share < 1]
    if not usable:
        return None
    best = max(f.correlation.value for f in usable)
    return min((f for f in usable if f.correlation.value >= best - AS_GOOD), key=lambda f: f.cost_s)


def _advice(found: Spread, ceiling: Correlation, choice: Fidelity | None) -> str:
    if not found.differ:
        return (
            f"architectures do not differ above seed noise here ({100 * found.architectures:.2f} points between "
            f"architectures, {100 * found.seeds:.2f} between seeds, p = {found.p_value:.2g}): "
            "a search is not worth its cost"
        )
    if choice is None:
        return (
            "no cheap score can be trusted here: train candidates in full, or calibrate with more architectures "
            f"and seeds (one full run correlates {ceiling} with the mean of the others)"
        )
    cost = f"at {100 * choice.cost_share:.0f} % of the cost" if choice.cost_s else "and needs no further training"
    as_good = "as well as" if choice.rest >= ceiling.value - AS_GOOD else "worse than"
    return (
        f"use {choice.name}: it ranks {as_good} a full run does ({choice.rest:.2f} against {ceiling.value:.2f}, "
        f"{choice.correlation} with the mean of all seeds) {cost}"
    )
