"""Tree-structured Parzen estimation for one trial: draws what Optuna's `TPESampler` draws from the same trials.

Optuna's sorts and reads all trials anew for each choice of each candidate that it proposes: with thousands of trials
and choices that only some candidates are asked, seconds a trial. Here they are split once, and read once for a study.

S. Watanabe, Tree-Structured Parzen Estimator: Understanding Its Algorithm Components, 2023.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.study.optuna_private import spread_out
from nas.study.pareto import Losses, dominance_ranks
from nas.study.search.history import NOT_ASKED, History, Standing
from nas.study.search.parzen import Parzen, recent_first

STARTUP_TRIALS = 10
"""That are drawn at random."""
CANDIDATES = 24
"""Of which the one is proposed that gains most."""
MAX_BETTER = 25
"""Of one objective; of several there is no limit."""

Split = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Numbers of the better trials and of the worse, each rising."""


class Tpe(BaseSampler):
    """Draws for one trial; all choices are categorical and known to the ``history``."""

    def __init__(self, *, seed: int, history: History, constant_liar: bool = True) -> None:
        """A ``constant_liar`` calls running trials bad, so that others do not draw the same."""
        self._rng = np.random.RandomState(seed)
        self._random = RandomSampler(seed=seed)
        self._history, self._constant_liar = history, constant_liar
        self._split: Split | None = None
        self._estimators: dict[tuple[str, ...], tuple[Parzen, Parzen]] = {}
        self._gains: dict[tuple[str, ...], dict[tuple[int, ...], float]] = {}
        """Of what has been sampled: few answers are possible, and they come again."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: whoever draws says what is to be drawn jointly."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Answers to these choices, drawn jointly; none while too few trials have ended."""
        if not search_space or self._few(study):
            return {}
        return self._sample(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The answer to one choice."""
        if self._few(study):
            return self._random.sample_independent(study, trial, param_name, param_distribution)
        return self._sample(study, trial, {param_name: param_distribution})[param_name]

    def _few(self, study: Study) -> bool:
        self._history.read(study)
        return _num_ended(self._history.standings) < STARTUP_TRIALS

    def _sample(self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        asked = tuple(search_space)
        if asked not in self._estimators:
            self._split = self._split or split(self._history, trial.number, len(study.directions), self._constant_liar)
            options = [self._history.num_options(name) for name in asked]
            several = len(study.directions) > 1
            better, worse = (self._answered(asked, numbers) for numbers in self._split)
            weights = np.ones(len(better)) if several else recent_first(len(better))
            self._estimators[asked] = (
                Parzen(better, options, weights),
                Parzen(worse, options, recent_first(len(worse))),
            )
        samples = self._estimators[asked][0].sample(self._rng, CANDIDATES)
        best = samples[int(np.argmax(self._gain(asked, samples)))].tolist()
        answers = zip(search_space.items(), best, strict=True)
        return {name: distribution.to_external_repr(place) for (name, distribution), place in answers}

    def _answered(self, asked: Sequence[str], numbers: NDArray[np.int64]) -> NDArray[np.int16]:
        """(·, P): the answers of those trials that were asked all of these choices."""
        columns = np.array([self._history.columns[name] for name in asked])
        answers: NDArray[np.int16] = self._history.answers[np.ix_(numbers, columns)]
        whole: NDArray[np.int16] = answers[(answers != NOT_ASKED).all(axis=1)]
        return whole

    def _gain(self, asked: tuple[str, ...], samples: NDArray[np.int64]) -> list[float]:
        gains = self._gains.setdefault(asked, {})
        rows = [tuple(row) for row in samples.tolist()]
        if new := [row for row in dict.fromkeys(rows) if row not in gains]:
            better, worse = self._estimators[asked]
            places = np.array(new)
            gains.update(zip(new, (better.log_density(places) - worse.log_density(places)).tolist(), strict=True))
        return [gains[row] for row in rows]


def _num_ended(standings: NDArray[np.int8]) -> int:
    return int(np.count_nonzero(standings <= Standing.INFEASIBLE))


def split(history: History, number: int, num_objectives: int, constant_liar: bool) -> Split:
    """The better and the worse of the trials beside the one with this ``number``.

    A tenth is better: complete trials before pruned ones, those that keep the constraints before those that do not.
    """
    standings, losses = history.standings.copy(), history.losses
    standings[number] = Standing.NONE
    wanted = math.ceil(0.1 * _num_ended(standings))
    wanted = wanted if num_objectives > 1 else min(wanted, MAX_BETTER)
    better: list[NDArray[np.int64]] = []
    for standing in (Standing.COMPLETE, Standing.PRUNED, Standing.INFEASIBLE):
        numbers = np.flatnonzero(standings == standing)
        several = num_objectives > 1 and standing is Standing.COMPLETE
        columns = num_objectives if standing is Standing.COMPLETE else 2
        chosen = _best_of_several if several else _best
        better.append(numbers[chosen(losses[numbers, :columns], min(wanted, len(numbers)))])
        wanted -= len(better[-1])
    counts = standings <= (Standing.RUNNING if constant_liar else Standing.INFEASIBLE)
    counts[np.concatenate(better)] = False
    return np.sort(np.concatenate(better)), np.flatnonzero(counts)


def _best(losses: Losses, count: int) -> NDArray[np.int64]:
    """(count,): by the first column, then the next; of equals those that come first."""
    return np.lexsort(losses.T[::-1])[:count]


def _best_of_several(losses: Losses, count: int) -> NDArray[np.int64]:
    """(count,): whole fronts, and of the last one those that together dominate most."""
    if not 0 < count < len(losses):
        return np.arange(count)
    ranks = dominance_ranks(losses)
    whole = np.searchsorted(np.cumsum(np.bincount(ranks)), count, side="right")
    chosen = np.flatnonzero(ranks < whole)
    last = np.flatnonzero(ranks == whole)
    return np.concatenate([chosen, last[spread_out(losses[last], count - len(chosen))]])
