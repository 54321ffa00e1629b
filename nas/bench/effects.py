"""What a choice does to the score, over the whole table: additive effects with intervals, and what is not additive.

The model is least squares on the mean of each architecture over its seeds: one effect for every pattern in every
stage. An architecture is one observation, so that intervals hold for other architectures of the space too: what
seeds and interactions add is the residual. In the complete table the effects are differences of plain marginal means.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtr, stdtrit

from nas.architecture import PATTERNS, PatternName
from nas.backbones import STAGES
from nas.bench.race import whole
from nas.bench.table import Table, Values
from nas.errors import UserError
from nas.statistics import LEVEL, holm

FUSED: tuple[PatternName, ...] = tuple(pattern for pattern in PATTERNS if pattern != "none")
Place = tuple[int, PatternName]
"""A pattern in a stage, counted from 1."""
PLACES: tuple[Place, ...] = tuple((stage, pattern) for stage in range(1, STAGES + 1) for pattern in FUSED)


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A sum of effects."""

    name: str
    value: float
    """In accuracy: 0.01 is a point."""
    low: float
    high: float
    """Intervals of all contrasts of one question hold together with 95 %."""
    p_adjusted: float
    """Corrected for the same (Bonferroni)."""

    @property
    def found(self) -> bool:
        """Whether it differs from 0."""
        return self.p_adjusted <= LEVEL


@dataclass(frozen=True, kw_only=True)
class Marginal:
    """Mean accuracy of the architectures with one pattern in one stage, whatever the other stages hold."""

    stage: int
    pattern: PatternName
    num_architectures: int
    mean: float
    low: float
    high: float
    """95 % interval, adjusted for what the other stages happen to hold."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """What a stage's pattern, or two stages' patterns beyond their sum, explain."""

    stages: tuple[int, ...]
    share: float
    """Of the variance of the architectures' means: ω², on average 0 where there is nothing, cut off there."""
    freedom: int
    p_adjusted: float
    """F test, corrected for all components of one order (Holm 1979)."""


class Additive:
    """The fitted model."""

    def __init__(self, table: Table) -> None:
        """Raises `UserError` where the table has too few architectures."""
        self.table = table = whole(table)
        self.patterns = np.array([[stage.pattern for stage in a.stages] for a in table.architectures])
        self.means = np.asarray(table.accuracy[:, :, -1].mean(1))
        self._design = np.column_stack([np.ones(len(self.means)), *(self._flag(place) for place in PLACES)])
        self._effects, self._rest, self._freedom = _fit(self._design, self.means)
        if self._freedom < 1:
            raise UserError(
                f"FusionBench: expected more than {len(PLACES) + 1} architectures with every seed to tell effects, got "
                f"{len(self.means)}; benchmarks/fusion_bench.py makes more"
            )
        self._inverse = np.linalg.pinv(self._design.T @ self._design)

    def _flag(self, place: Place) -> Values:
        return np.asarray(self.patterns[:, place[0] - 1] == place[1], np.float64)

    @property
    def spread(self) -> float:
        """Standard deviation of the residual, in accuracy."""
        return float(np.sqrt(self._rest / self._freedom))

    def _interval(self, weights: Values, count: int = 1) -> tuple[float, float, float, float]:
        """Value, low, high and p-value of a weighted sum of the coefficients, for one of ``count`` questions."""
        value = float(weights @ self._effects)
        error = self.spread * float(np.sqrt(weights @ self._inverse @ weights))
        if not error:  # a spread that was not seen is unknown
            return value, -math.inf, math.inf, 1.0
        half = float(stdtrit(self._freedom, 1 - LEVEL / (2 * count))) * error
        p_value = count * float(2 * stdtr(self._freedom, -abs(value) / error))
        return value, value - half, value + half, min(1.0, p_value)

    def contrasts(self, wanted: Mapping[str, Mapping[Place, float]]) -> tuple[Contrast, ...]:
        """Sums of effects (against `none` in that stage) by name: each place with its weight."""
        found = []
        for name, weights in wanted.items():
            summed = np.array([0.0, *(weights.get(place, 0.0) for place in PLACES)])
            value, low, high, p = self._interval(summed, len(wanted))
            found.append(Contrast(name=name, value=value, low=low, high=high, p_adjusted=p))
        return tuple(found)

    def marginals(self) -> Iterator[Marginal]:
        """Every pattern in every stage; the other stages hold each pattern equally often."""
        for stage in range(1, STAGES + 1):
            for pattern in PATTERNS:
                shares = [float(p == pattern) if s == stage else 1 / len(PATTERNS) for s, p in PLACES]
                mean, low, high, _ = self._interval(np.array([1.0, *shares]))
                count = int((self.patterns[:, stage - 1] == pattern).sum())
                yield Marginal(stage=stage, pattern=pattern, num_architectures=count, mean=mean, low=low, high=high)

    def components(self, order: int) -> tuple[Component, ...]:
        """Single stages (order 1) or pairs (order 2), each against the model without it; the largest share first.

        None where the table has too few architectures to tell a pair from noise.
        """
        groups = list(combinations(range(1, STAGES + 1), order))
        found = [f for group in groups if (f := self._component(group)) is not None]
        adjusted = holm([p for *_, p in found])
        parts = [
            Component(stages=stages, share=share, freedom=freedom, p_adjusted=p)
            for (stages, share, freedom, _), p in zip(found, adjusted, strict=True)
        ]
        return tuple(sorted(parts, key=lambda part: -part.share))

    def _component(self, stages: tuple[int, ...]) -> tuple[tuple[int, ...], float, int, float] | None:
        if len(stages) == 1:
            larger = self._design
            smaller = self._design[:, [True, *(stage not in stages for stage, _ in PLACES)]]
        else:
            first, second = ([self._flag((stage, pattern)) for pattern in FUSED] for stage in stages)
            smaller = self._design
            larger = np.column_stack([smaller, *(a * b for a in first for b in second)])
        rest, freedom = _fit(larger, self.means)[1:]
        wider, more = _fit(smaller, self.means)[1:]
        explained, between = wider - rest, more - freedom
        if freedom < 1 or between < 1 or rest <= 0:
            return None
        noise = rest / freedom
        total = float(((self.means - self.means.mean()) ** 2).sum())
        share = max(0.0, (explained - between * noise) / (total + noise))
        return stages, share, between, float(fdtrc(between, freedom, explained / between / noise))


def _fit(design: Values, values: Values) -> tuple[Values, float, int]:
    """Coefficients, residual sum of squares and its degrees of freedom."""
    coefficients, _, rank, _ = np.linalg.lstsq(design, values)
    residual = values - design @ coefficients
    return np.asarray(coefficients), float(residual @ residual), len(values) - int(rank)


def seed_share(table: Table) -> float:
    """Share of the variance of the architectures' means that the seeds alone make."""
    scores = whole(table).accuracy[:, :, -1]
    A, S = scores.shape
    residual = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    noise = float((residual**2).sum()) / ((A - 1) * (S - 1)) / S
    spread = float(scores.mean(1).var(ddof=1))
    return min(1.0, noise / spread) if spread else 1.0


def spoken(table: Table, signal: str) -> NDArray[np.float64]:
    """(stages, patterns): share of the runs in which a signal spoke about a stage, by the stage's pattern."""
    table = whole(table)
    at = table.meta["signals"].index(signal)
    patterns = np.array([[stage.pattern for stage in a.stages] for a in table.architectures])
    found = np.zeros((STAGES, len(PATTERNS)))
    for stage in range(STAGES):
        heard = (table.spoke[:, :, at] >> (stage + 1)) & 1
        for column, pattern in enumerate(PATTERNS):
            rows = heard[patterns[:, stage] == pattern]
            found[stage, column] = rows.mean() if rows.size else np.nan
    return found


def by_fused_stages(table: Table) -> dict[int, Sequence[float]]:
    """Mean accuracies of the architectures with so many stages of attention."""
    table = whole(table)
    counts = np.array([sum(not stage.is_off for stage in a.stages) for a in table.architectures])
    means = table.accuracy[:, :, -1].mean(1)
    return {int(count): means[counts == count].tolist() for count in np.unique(counts)}
