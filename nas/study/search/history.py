"""What tree-structured Parzen estimation needs of the trials before it, each of them read once.

Shapes: N trials by their number, P choices of the space, M objectives.
"""

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

NOT_ASKED = -1
"""In place of an answer: the trial was not asked, or gave one that the space does not have."""


class Standing(IntEnum):
    """How a trial counts; the better ones come first."""

    COMPLETE = 0
    PRUNED = 1
    INFEASIBLE = 2
    """It breaks a constraint."""
    RUNNING = 3
    NONE = 4
    """It waits, or has failed."""


class History:
    """The trials of one study. One that goes on after it had ended is read again: Optuna hands out another object."""

    def __init__(self, distributions: Mapping[str, CategoricalDistribution]) -> None:
        self.columns = {name: column for column, name in enumerate(distributions)}
        """Where each choice stands in `answers`."""
        self._places = [{option: i for i, option in enumerate(d.choices)} for d in distributions.values()]
        self._ended: list[FrozenTrial | None] = []
        self._answers = np.empty((0, len(self.columns)), dtype=np.int16)
        self._standings = np.empty(0, dtype=np.int8)
        self._losses = np.empty((0, 2))
        self._fresh = False

    def num_options(self, name: str) -> int:
        """How many answers a choice has."""
        return len(self._places[self.columns[name]])

    @property
    def answers(self) -> NDArray[np.int16]:
        """(N, P): places of the answers among the options of their choices, or `NOT_ASKED`."""
        return self._answers[: len(self._ended)]

    @property
    def standings(self) -> NDArray[np.int8]:
        """(N,): a `Standing` each."""
        return self._standings[: len(self._ended)]

    @property
    def losses(self) -> NDArray[np.float64]:
        """(N, max(M, 2)): what orders the trials of one standing, smaller first, column by column.

        The values of a complete trial; the last step of a pruned one, negated, and its value there; by how much a trial
        breaks its constraints.
        """
        return self._losses[: len(self._ended)]

    def next_trial(self) -> None:
        """What is read from here on is read for another trial."""
        self._fresh = False

    def read(self, study: Study) -> None:
        """Read what has changed; once for a trial."""
        if self._fresh:
            return
        self._fresh = True
        trials = study.get_trials(deepcopy=False)
        self._make_room(max((t.number for t in trials), default=-1) + 1, max(len(study.directions), 2))
        signs = [-1.0 if way == StudyDirection.MAXIMIZE else 1.0 for way in study.directions]
        for trial in trials:
            if self._ended[trial.number] is not trial:
                self._note(trial, signs)

    def _make_room(self, num_trials: int, width: int) -> None:
        self._ended += [None] * (num_trials - len(self._ended))
        more = num_trials - len(self._standings)
        if more <= 0:
            return
        more = max(more, len(self._standings))  # so that the tables are rarely copied
        self._answers = np.pad(self._answers, ((0, more), (0, 0)), constant_values=NOT_ASKED)
        self._standings = np.pad(self._standings, (0, more), constant_values=Standing.NONE)
        self._losses = np.pad(self._losses, ((0, more), (0, width - self._losses.shape[1])))

    def _note(self, trial: FrozenTrial, signs: list[float]) -> None:
        self._ended[trial.number] = trial if trial.state.is_finished() else None
        self._standings[trial.number], losses = _standing(trial, signs)
        self._losses[trial.number, : len(losses)] = losses
        for (name, column), places in zip(self.columns.items(), self._places, strict=True):
            self._answers[trial.number, column] = places.get(trial.params.get(name), NOT_ASKED)


def _standing(trial: FrozenTrial, signs: list[float]) -> tuple[Standing, list[float]]:
    if trial.state == TrialState.RUNNING:
        return Standing.RUNNING, []
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return Standing.NONE, []
    if (excess := sum(value for value in trial.constraints.values() if value > 0)) > 0:
        return Standing.INFEASIBLE, [excess, 0.0]
    if trial.state == TrialState.COMPLETE:
        return Standing.COMPLETE, [sign * value for sign, value in zip(signs, trial.values, strict=True)]
    if not trial.intermediate_values:
        return Standing.PRUNED, [1.0, 0.0]
    step, value = max(trial.intermediate_values.items())
    return Standing.PRUNED, [-float(step), np.inf if np.isnan(value) else signs[0] * value]
