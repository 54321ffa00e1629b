"""Evolving architectures: children of the best trials so far, by the answers that describe them.

Optuna's own NSGA-II crosses parameters that all parents share and draws every conditional one at random. Here a
child takes each answer from a parent that has it, so that all choices of a conditional space are inherited.
"""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.architecture import Architecture
from nas.space.space import SearchSpace
from nas.space.vocabulary import Answers, Option
from nas.study.pareto import best_first

POPULATION = 20
TOURNAMENT = 5
"""Members of the population of which the best becomes a parent (regularised evolution)."""
CROSSOVER = 0.9
"""Probability of two parents rather than one (NSGA-II)."""
STOPPED_ATTR = "stopped"
"""Attribute of an Optuna trial that a rung has stopped: its epochs and its values there."""

Breed = Callable[[SearchSpace, Sequence[FrozenTrial], np.random.Generator], Answers]
"""Some answers of a child of trials that are `ranked`; the space asks for the rest."""


def ranked(study: Study) -> list[FrozenTrial]:
    """The trials that may be parents, best first: those that ran longest, and of these by non-dominated sorting.

    A trial that breaks a constraint, or whose network lies outside the space, is none.
    """
    by_depth: dict[float, list[tuple[FrozenTrial, list[float]]]] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        reached = _reached(trial)
        if trial.params and reached is not None and max(trial.constraints.values(), default=0.0) <= 0:
            by_depth.setdefault(reached[0], []).append((trial, reached[1]))
    signs = np.array([-1.0 if way == StudyDirection.MAXIMIZE else 1.0 for way in study.directions])
    found = []
    for depth in sorted(by_depth, reverse=True):
        trials = by_depth[depth]
        losses = np.array([values for _, values in trials]) * signs
        found += [trials[i][0] for i in best_first(losses)]
    return found


def _reached(trial: FrozenTrial) -> tuple[float, list[float]] | None:
    """After how many epochs the values of a trial were taken, and the values; None where it has none."""
    if trial.state == TrialState.COMPLETE:
        return np.inf, cast("list[float]", trial.values)
    if (stopped := trial.user_attrs.get(STOPPED_ATTR)) is not None:
        return stopped["epochs"], stopped["values"]
    if trial.intermediate_values:
        epochs, value = max(trial.intermediate_values.items())
        return (epochs, [value]) if np.isfinite(value) else None
    return None


def regularised(space: SearchSpace, best: Sequence[FrozenTrial], rng: np.random.Generator) -> Answers:
    """The best of a few of the youngest trials, with one answer changed (E. Real et al., 2019, ageing evolution)."""
    youngest = sorted(range(len(best)), key=lambda i: best[i].number)[-POPULATION:]
    if len(youngest) < min(POPULATION, TOURNAMENT):
        return {}
    parent = best[min(rng.choice(youngest, TOURNAMENT))].params
    return _changed(space, parent, [str(rng.choice(list(parent)))], rng)


def nsga2(space: SearchSpace, best: Sequence[FrozenTrial], rng: np.random.Generator) -> Answers:
    """A child of two of the best trials, each the better of two at random (K. Deb et al., 2002, steady state)."""
    best = best[:POPULATION]
    if len(best) < POPULATION // 2:
        return {}
    first, second = (best[min(rng.integers(len(best), size=2))].params for _ in range(2))
    child = dict(first)
    if rng.random() < CROSSOVER:
        names = sorted(first.keys() | second.keys())
        child = {name: (first, second)[int(rng.integers(2))].get(name) for name in names}
        child = {name: answer for name, answer in child.items() if answer is not None}
    mutated = [name for name in child if rng.random() < 1 / len(child)]
    return _changed(space, child, mutated, rng)


def _changed(space: SearchSpace, answers: Answers, names: list[str], rng: np.random.Generator) -> Answers:
    choices, changed = space.choices(), dict(answers)
    for name in names:
        others = [option for option in choices[name] if option != answers[name]]
        changed[name] = others[int(rng.integers(len(others)))]
    return changed


def child_of(space: SearchSpace, parent: Architecture, rng: np.random.Generator) -> Architecture:
    """An architecture with one answer changed; what that makes the space ask anew is answered at random."""
    answers = space.encode(parent) or {}
    child = _changed(space, answers, [str(rng.choice(list(answers)))], rng) if answers else {}
    return decoded(space, child, rng)


def decoded(space: SearchSpace, answers: Answers, rng: np.random.Generator) -> Architecture:
    """The architecture of some answers; the others are drawn at random."""

    def choose(name: str, options: tuple[Option, ...]) -> Option:
        return answers[name] if name in answers else options[int(rng.integers(len(options)))]

    return space.decode(choose)


BREEDS: dict[str, Breed] = {"evolution": regularised, "nsga2": nsga2}
"""By the name that a study file gives."""
