"""Densities of answers to several choices, each with a few options: what Optuna's Parzen estimator is for those.

A mixture with a kernel for each observation and one that likes all answers alike. A kernel gives most of its weight to
the observed answer of each choice, and the less to the others the more observations there are.

Shapes: N observations, P choices, S samples.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.integer]
"""(·, P): places of answers among the options of their choices."""


MAX_COUNTED = 100_000
"""Answers to all choices together, up to which observations are counted rather than listed."""


class Parzen:
    """The density of ``observed`` (N, P) answers, with so many options a choice and a weight (N,) each."""

    def __init__(self, observed: Places, num_options: Sequence[int], weights: NDArray[np.float64]) -> None:
        self._observed = observed
        options = np.asarray(num_options, dtype=float)
        other = 1 / (len(observed) + 1)
        self._other = other / (1 + other * options)
        """(P,): what a kernel gives to each option that was not observed."""
        self._same = (1 + other) / (1 + other * options)
        self._options = options
        weights = np.append(weights, 1.0)
        self._weights = weights / weights.sum()
        self._distinct, self._distinct_weights = _grouped(observed, num_options, self._weights[:-1])

    def sample(self, rng: np.random.RandomState, size: int) -> NDArray[np.int64]:
        """(size, P)"""
        kernels = rng.choice(len(self._weights), p=self._weights, size=size)
        columns = [self._sample_choice(rng, kernels, choice) for choice in range(len(self._options))]
        return np.stack(columns, axis=1)

    def _sample_choice(self, rng: np.random.RandomState, kernels: NDArray[np.int64], choice: int) -> NDArray[np.int64]:
        """(size,): an answer to one choice from each of some kernels, by inversion."""
        num_options = int(self._options[choice])
        chances = np.full((len(kernels), num_options), 1 / num_options)
        of_observed = np.flatnonzero(kernels < len(self._observed))
        chances[of_observed] = self._other[choice]
        chances[of_observed, self._observed[kernels[of_observed], choice]] = self._same[choice]
        edges = np.cumsum(chances, axis=1)
        edges[:, -1] = 1  # whatever the rounding
        places: NDArray[np.int64] = np.sum(edges < rng.rand(len(kernels))[:, None], axis=1)
        return places

    def log_density(self, samples: Places) -> NDArray[np.float64]:
        """(S,)"""
        gain = np.log(self._same) - np.log(self._other)
        logs = (samples[:, None] == self._distinct[None]) @ gain + np.log(self._other).sum()
        logs += np.log(self._distinct_weights)
        prior = np.full((len(samples), 1), np.log(self._weights[-1]) - np.log(self._options).sum())
        logs = np.concatenate([logs, prior], axis=1)
        highest = logs.max(axis=1, keepdims=True)
        density: NDArray[np.float64] = highest[:, 0] + np.log(np.exp(logs - highest).sum(axis=1))
        return density


def _grouped(
    observed: Places, num_options: Sequence[int], weights: NDArray[np.float64]
) -> tuple[Places, NDArray[np.float64]]:
    """Equal observations as one, with their weights added, where the answers can be counted."""
    if not len(observed) or math.prod(num_options) > MAX_COUNTED:
        return observed, weights
    total = np.asarray(np.bincount(np.ravel_multi_index(tuple(observed.T), tuple(num_options)), weights), np.float64)
    distinct = np.flatnonzero(total)
    return np.stack(np.unravel_index(distinct, tuple(num_options)), axis=1), total[distinct]


def recent_first(count: int) -> NDArray[np.float64]:
    """(count,): weights of observations, oldest first: the latest 25 count in full, those before them less and less."""
    latest = 25
    ramp = np.linspace(1 / count, 1.0, num=count - latest) if count > latest else np.empty(0)
    return np.concatenate([ramp, np.ones(min(count, latest))])
