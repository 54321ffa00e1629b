"""Drawing architectures: Optuna's samplers, seeded by the trial's place in the study, never twice the same network."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.architecture import Architecture
from nas.errors import NasError
from nas.space.space import SearchSpace

if TYPE_CHECKING:
    from optuna.trial import Trial

Option = str | int | float | bool
Claim = Callable[[int, Architecture], bool]
"""Makes the trial with this id the owner of an architecture; False where another trial owns it."""
Owned = Callable[[int], Architecture | None]
"""What the trial with this id owns already; None before anything was drawn for it."""

SAMPLER_DRAWS = 24
RANDOM_DRAWS = 256


class SpaceExhausted(NasError):
    """Every architecture of the space belongs to a trial already."""


def place_seed(study_seed: int, number: int) -> int:
    """The sampler's seed for the trial with this number: a retried trial keeps it, no two trials share it."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0])


def make_sampler(name: str, seed: int) -> BaseSampler:
    """One of Optuna's samplers by the name that a study file gives."""
    if name == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed)


def distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    """Every choice that the space can ask for, as Optuna sees it."""
    return {name: CategoricalDistribution(options) for name, options in space.choices().items()}


def suggest(trial: "Trial", space: SearchSpace) -> Architecture:
    """The architecture of a trial: all its parameters are suggested here, before anything can prune."""

    def choose(name: str, options: Sequence[Option]) -> Option:
        return cast("Option", trial.suggest_categorical(name, list(options)))

    return space.decode(choose)


class FusionSampler(BaseSampler):
    """Draws whole candidates from an Optuna sampler until one is found that no other trial owns."""

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
        self._space = space
        self._name = name
        self._seed = seed
        self._claim = claim
        self._owned = owned
        self._finalists = finalists
        self._distributions: dict[str, BaseDistribution] = dict(distributions(space))
        self._joint = {name: self._distributions[name] for name in space.joint_choices()}
        self._inner: BaseSampler = make_sampler(name, seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed by the trial's place, so that a resumed study goes on where it was."""
        self._inner = make_sampler(self._name, place_seed(self._seed, trial.number))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All choices of the space: candidates are drawn whole."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The choices of one candidate that this trial now owns, or owns since an attempt that was broken off."""
        if (architecture := self._owned(trial._trial_id)) is not None:
            return self._encoded(architecture)
        for architecture in self._finalists:
            if self._claim(trial._trial_id, architecture):
                return self._encoded(architecture)
        for _ in range(SAMPLER_DRAWS):
            params, architecture = self._draw(study, trial)
            if self._claim(trial._trial_id, architecture):
                return params
        return self._draw_unseen(trial)

    def _draw(self, study: Study, trial: FrozenTrial) -> tuple[dict[str, Option], Architecture]:
        """What every candidate is asked is drawn jointly, the rest one after the other.

        Optuna's own joint space would shrink to nothing at the first landmark that lies outside the space.
        """
        joint = self._inner.sample_relative(study, trial, self._joint)
        params: dict[str, Option] = {}

        def choose(name: str, options: Sequence[Option]) -> Option:  # noqa: ARG001 - the distribution has them
            distribution = self._distributions[name]
            drawn = joint if name in joint else self._inner.sample_relative(study, trial, {name: distribution})
            params[name] = (
                drawn[name] if name in drawn else self._inner.sample_independent(study, trial, name, distribution)
            )
            return params[name]

        return params, self._space.decode(choose)

    def _draw_unseen(self, trial: FrozenTrial) -> dict[str, Any]:
        """The sampler insists on networks that are known: take a random one that is not."""
        rng = np.random.default_rng([self._seed, trial.number])
        for _ in range(RANDOM_DRAWS):
            architecture = self._space.sample(rng)
            if self._claim(trial._trial_id, architecture):
                return self._encoded(architecture)
        for architecture in self._space.architectures():
            if self._claim(trial._trial_id, architecture):
                return self._encoded(architecture)
        raise SpaceExhausted(f"all {self._space.size} architectures of the space {self._space.name} are taken")

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
