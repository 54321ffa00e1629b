"""Drawing architectures: a sampler seeded by the trial's place in the study, and never the same network twice."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.architecture import Architecture
from nas.errors import NasError, UserError
from nas.space.space import MAX_LISTED, SearchSpace
from nas.space.vocabulary import Option
from nas.study.optuna_private import id_of
from nas.study.search.evolution import BREEDS, decoded, ranked
from nas.study.search.history import History
from nas.study.search.tpe import Tpe

Claim = Callable[[int, Architecture], bool]
"""Makes the trial with this id the owner of an architecture; False where another trial owns it."""
Owned = Callable[[int], Architecture | None]
"""What the trial with this id owns already; None before anything was drawn for it."""

SAMPLER_DRAWS = 24
GP_DRAWS = 2
"""Of the Gaussian process, which thinks longer and says the same again."""
RANDOM_DRAWS = 256


class SpaceExhausted(NasError):
    """Every architecture of the space belongs to a trial already."""


def place_seed(study_seed: int, number: int) -> int:
    """The sampler's seed for the trial with this number: a retried trial keeps it, no two trials share it."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0])


def make_sampler(name: str, seed: int, history: History) -> BaseSampler:
    """What draws for one trial, by the name that a study file gives; random for those that breed."""
    if name == "tpe":
        return Tpe(seed=seed, history=history)
    return GPSampler(seed=seed) if name == "gp" else RandomSampler(seed=seed)


def check_sampler(name: str, space: SearchSpace) -> None:
    """Raise a `UserError` where a sampler cannot draw from a space."""
    if name == "grid" and space.size > MAX_LISTED:
        raise UserError(
            f"sampler: grid: the space {space.name} holds {space.size:,} architectures, at most {MAX_LISTED:,} can be "
            "listed; expected a smaller space or another sampler, such as tpe"
        )
    conditional = sorted(space.choices().keys() - set(space.joint_choices())) if name == "gp" else []
    if conditional:
        raise UserError(
            f"sampler: gp: the space {space.name} asks {conditional[0]} of some candidates only; "
            "expected a space that asks the same of all, or another sampler, such as tpe"
        )


def distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    """Every choice that the space can ask for, as Optuna sees it."""
    return {name: CategoricalDistribution(options) for name, options in space.choices().items()}


def suggest(trial: Trial, space: SearchSpace) -> Architecture:
    """The architecture of a trial of a study in memory, where Optuna stores its parameters one by one."""

    def choose(name: str, options: Sequence[Option]) -> Option:
        return cast("Option", trial.suggest_categorical(name, list(options)))

    return space.decode(choose)


class FusionSampler(BaseSampler):
    """Draws whole candidates until one is found that no other trial owns."""

    def __init__(
        self,
        space: SearchSpace,
        name: str,
        seed: int,
        *,
        claim: Claim,
        owned: Owned,
        finalists: Sequence[Architecture] = (),
    ) -> None:
        """``finalists`` are taken first, in their order: candidates that a cheap score found to be good."""
        check_sampler(name, space)
        self._space = space
        self._name = name
        self._seed = seed
        self._claim = claim
        self._owned = owned
        self._finalists = finalists
        self._distributions: dict[str, BaseDistribution] = dict(distributions(space))
        self._joint = {name: self._distributions[name] for name in space.joint_choices()}
        self._history = History(distributions(space))
        self._inner, self._single = self._make(seed)
        self._grid: list[Architecture] = []

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed by the trial's place, so that a resumed study goes on where it was."""
        self._history.next_trial()
        self._inner, self._single = self._make(place_seed(self._seed, trial.number))

    def _make(self, seed: int) -> tuple[BaseSampler, BaseSampler]:
        """What draws the choices that all candidates are asked, and what draws the others."""
        single = Tpe(seed=seed ^ 1, history=self._history, constant_liar=False)
        return make_sampler(self._name, seed, self._history), single

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All choices of the space: candidates are drawn whole."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The choices of one candidate that this trial now owns, or owns since an attempt that was broken off."""
        if (architecture := self._owned(id_of(trial))) is not None:
            return self._encoded(architecture)
        for architecture in itertools.chain(self._finalists, self._proposals(study, trial), self._unseen(trial)):
            if self._claim(id_of(trial), architecture):
                return self._encoded(architecture)
        raise SpaceExhausted(f"all {self._space.size} architectures of the space {self._space.name} are taken")

    def _proposals(self, study: Study, trial: FrozenTrial) -> Iterable[Architecture]:
        """What the sampler would like to see, one after the other."""
        if self._name == "grid":
            return self._from_grid(trial)
        if self._name in BREEDS:
            best = ranked(study)
            rng = np.random.default_rng([self._seed, trial.number, 1])
            return (self._child(best, rng) for _ in range(SAMPLER_DRAWS))
        draws = GP_DRAWS if self._name == "gp" else SAMPLER_DRAWS
        return (self._draw(study, trial) for _ in range(draws))

    def _from_grid(self, trial: FrozenTrial) -> Iterator[Architecture]:
        """Every architecture once in an order of the study's seed; each trial begins at its own place."""
        if not self._grid:
            every = list(self._space.architectures())
            self._grid = [every[i] for i in np.random.default_rng(self._seed).permutation(len(every))]
        start = trial.number % len(self._grid)
        return itertools.chain(self._grid[start:], self._grid[:start])

    def _child(self, best: Sequence[FrozenTrial], rng: np.random.Generator) -> Architecture:
        return decoded(self._space, BREEDS[self._name](self._space, best, rng), rng)

    def _draw(self, study: Study, trial: FrozenTrial) -> Architecture:
        """What every candidate is asked is drawn jointly, the rest one after the other.

        Optuna's own joint space would shrink to nothing at the first landmark that lies outside the space.
        """
        joint = (
            self._joint_of_gp(study) if self._name == "gp" else self._inner.sample_relative(study, trial, self._joint)
        )
        alone = self._inner
        if joint and self._name == "tpe":  # running trials count in what is drawn jointly
            alone = self._single

        def choose(name: str, options: Sequence[Option]) -> Option:  # noqa: ARG001 - the distribution has them
            if name in joint:
                return cast("Option", joint[name])
            return cast("Option", alone.sample_independent(study, trial, name, self._distributions[name]))

        return self._space.decode(choose)

    def _joint_of_gp(self, study: Study) -> dict[str, Any]:
        """Drawn in a copy of the study without landmarks outside the space: the process needs every answer of all."""
        seen = optuna.create_study(directions=study.directions)
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        seen.add_trials([trial for trial in complete if self._joint.keys() <= trial.params.keys()])
        seen.ask()
        return self._inner.sample_relative(seen, seen.get_trials(deepcopy=False)[-1], self._joint)

    def _unseen(self, trial: FrozenTrial) -> Iterator[Architecture]:
        """The sampler insists on networks that are known: random ones, then all that can be listed."""
        rng = np.random.default_rng([self._seed, trial.number])
        yield from (self._space.sample(rng) for _ in range(RANDOM_DRAWS))
        yield from self._space.architectures()

    def _encoded(self, architecture: Architecture) -> dict[str, Any]:
        return dict(self._space.encode(architecture) or {})

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never needed for a whole candidate; Optuna asks for it where a parameter is unknown."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Let the inner sampler note the result."""
        self._inner.after_trial(study, trial, state, values)
