"""Drawing architectures: a sampler seeded by the trial's place in the study, and never the same network twice."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import _split_trials, default_gamma, default_gamma_multiobjective
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.architecture import Architecture
from nas.errors import NasError, UserError
from nas.space.space import MAX_LISTED, SearchSpace
from nas.space.vocabulary import Option
from nas.study.search.evolution import BREEDS, decoded, ranked

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


class TreeParzen(TPESampler):
    """TPE for one trial: draws what Optuna's draws, but looks at the trials before it only once.

    Optuna's sorts and reads all of them anew for each choice of each candidate that it proposes.
    """

    def __init__(self, *, seed: int, constant_liar: bool = True) -> None:
        super().__init__(seed=seed, constant_liar=constant_liar)
        self._parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] | None = None
        self._estimators: dict[tuple[str, ...], tuple[_ParzenEstimator, _ParzenEstimator]] = {}
        self._gains: dict[tuple[str, ...], dict[tuple[float, ...], float]] = {}
        """The acquisition function of what has been sampled: few answers are possible, and they come again."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna's, which also stores each proposal: here the ledger stores the one that the trial will own."""
        return self._sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As Optuna's, which counts the trials anew for each choice."""
        if self._parts is None:
            return super().sample_independent(study, trial, param_name, param_distribution)
        return self._sample(study, trial, {param_name: param_distribution})[param_name]

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        asked = tuple(search_space)
        if asked not in self._estimators:
            below, above = self._parts = self._parts or self._split(study, trial)
            evenly = np.ones if study._is_multi_objective() else None
            self._estimators[asked] = (self._count(below, search_space, evenly), self._count(above, search_space))
        samples = self._estimators[asked][0].sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(samples, self._acquisition(asked, samples))
        return {name: distribution.to_external_repr(best[name]) for name, distribution in search_space.items()}

    def _acquisition(self, asked: tuple[str, ...], samples: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        gains = self._gains.setdefault(asked, {})
        rows = list(zip(*(samples[name].tolist() for name in asked), strict=True))
        if new := [row for row in dict.fromkeys(rows) if row not in gains]:
            answers = {name: np.asarray(column) for name, column in zip(asked, zip(*new, strict=True), strict=True)}
            gains.update(zip(new, self._compute_acquisition_func(answers, *self._estimators[asked]), strict=True))
        return np.asarray([gains[row] for row in rows])

    def _split(self, study: Study, trial: FrozenTrial) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The parameters of the better and of the worse of the other trials; a constant liar calls running ones bad."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, *((TrialState.RUNNING,) if self._constant_liar else ()))
        known = study._get_trials(deepcopy=False, states=states, use_cache=True)
        others = [other for other in known if other.number != trial.number]
        num_finished = sum(other.state is not TrialState.RUNNING for other in others)
        gamma = default_gamma_multiobjective if study._is_multi_objective() else default_gamma
        below, above = _split_trials(study, others, gamma(num_finished))
        return [self._get_params(t, study) for t in below], [self._get_params(t, study) for t in above]

    def _count(
        self,
        trials: list[dict[str, Any]],
        search_space: dict[str, Any],
        weights: Callable[[int], NDArray[np.float64]] | None = None,
    ) -> _ParzenEstimator:
        """The density of choices among trials that were asked all of them; without weights later ones count more.

        All choices are categorical, so that a look-up tells the place of each answer.
        """
        asked = trials
        for name in search_space:
            asked = [params for params in asked if name in params]
        seen = {}
        for name, distribution in search_space.items():
            place = {option: index for index, option in enumerate(distribution.choices)}
            seen[name] = np.asarray([place[params[name]] for params in asked])
        given = None if weights is None else weights(len(asked))
        return _ParzenEstimator(seen, search_space, self._parzen_estimator_parameters, given)


def make_sampler(name: str, seed: int) -> BaseSampler:
    """One of Optuna's samplers by the name that a study file gives; random for those that are not Optuna's."""
    if name == "tpe":
        return TreeParzen(seed=seed)
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
        self._inner: BaseSampler = make_sampler(name, seed)
        self._single: BaseSampler = TreeParzen(seed=seed ^ 1, constant_liar=False)
        self._grid: list[Architecture] = []

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed by the trial's place, so that a resumed study goes on where it was."""
        seed = place_seed(self._seed, trial.number)
        self._inner, self._single = make_sampler(self._name, seed), TreeParzen(seed=seed ^ 1, constant_liar=False)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All choices of the space: candidates are drawn whole."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The choices of one candidate that this trial now owns, or owns since an attempt that was broken off."""
        if (architecture := self._owned(trial._trial_id)) is not None:
            return self._encoded(architecture)
        for architecture in itertools.chain(self._finalists, self._proposals(study, trial), self._unseen(trial)):
            if self._claim(trial._trial_id, architecture):
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
        if joint and self._name == "tpe":  # the constant liar would read all trials from the database for each choice
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
