"""Successive halving with several objectives: who goes on at a rung, and who is promoted later.

MO-ASHA (R. Schmucker et al., Multi-objective Asynchronous Successive Halving, 2021): at each rung one in
``reduction_factor`` goes on, chosen among all that have reached it by non-dominated sorting and crowding. A trial
that is stopped keeps its checkpoint. It is promoted when it belongs to the chosen ones of a rung that has grown.

Optuna refuses to prune with several objectives (https://github.com/optuna/optuna/issues/2792).
"""

import math
from collections.abc import Collection, Mapping
from typing import Protocol

from nas.study.config import PrunerConfig
from nas.study.goals import Objectives
from nas.study.pareto import best_first, losses_of

STOPPED = "asha"
"""Reason of a trial that a rung has stopped."""


class RungRecords(Protocol):
    """What is stored of the trials that rungs compare, by trial id."""

    def reached(self, epochs: int, beside: Collection[int] = ()) -> Mapping[int, Mapping[str, float]]:
        """What was known after so many epochs of all trials that ran so long but those in ``beside``."""
        ...

    def stopped(self, reason: str) -> Mapping[int, int]:
        """Trials that ended with ``reason``, and after how many epochs each."""
        ...

    def promotions(self) -> Collection[tuple[int, int]]:
        """(trial id, epochs): rungs past which a stopped trial was let."""
        ...

    def promote(self, trial_id: int, epochs: int) -> None:
        """Let a stopped trial wait to go on."""
        ...


class Rungs:
    """The rungs of one study. All workers see the same ones: what has reached them stands in the database."""

    def __init__(self, ledger: RungRecords, goals: Objectives, config: PrunerConfig, epochs: int) -> None:
        self._ledger, self._goals, self._factor = ledger, goals, config.reduction_factor
        self.levels = config.rungs(epochs)
        """Epochs after which trials are compared."""
        self._values: dict[int, dict[int, tuple[float, ...]]] = {level: {} for level in self.levels}
        """What trials had at each rung, by their ids; it stays as it is once a trial has got there."""
        self._best: dict[int, tuple[int, list[int]]] = {}
        """Of each rung, how many had reached it and who of them went on."""

    def goes_on(self, trial_id: int, epochs: int) -> bool:
        """Whether a trial that has run so many epochs may run more now."""
        if epochs not in self.levels or (trial_id, epochs) in self._ledger.promotions():
            return True
        return trial_id in self._chosen(epochs)

    def promote(self) -> bool:
        """Let the best of the stopped trials that may go on wait for a worker; False where there is none.

        The highest rung comes first: what is nearest to its end is worth most.
        """
        stopped = self._ledger.stopped(STOPPED)
        for level in sorted(set(stopped.values()), reverse=True):
            for trial_id in self._chosen(level):
                if stopped.get(trial_id) == level:
                    self._ledger.promote(trial_id, level)
                    return True
        return False

    def _chosen(self, level: int) -> list[int]:
        """Ids of the trials that go on at a rung, best first; what has no finite values is never among them."""
        values = self._values[level]
        for trial_id, known in self._ledger.reached(level, values).items():
            values[trial_id] = tuple(known.get(name, math.nan) for name in self._goals.names)
        if level not in self._best or self._best[level][0] != len(values):
            ids = sorted(trial_id for trial_id, row in values.items() if all(map(math.isfinite, row)))
            losses = losses_of(self._goals, [values[trial_id] for trial_id in ids])
            self._best[level] = (len(values), [ids[i] for i in best_first(losses, len(ids) // self._factor)])
        return self._best[level][1]
