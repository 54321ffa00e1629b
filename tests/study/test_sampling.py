"""What is drawn: seeded by place, never twice, whole before anything can prune."""

from collections.abc import Callable

import numpy as np
import optuna
import pytest

from nas.architecture import Architecture
from nas.space.space import SearchSpace
from nas.study.search import parzen
from nas.study.search.history import History
from nas.study.search.sampler import (
    FusionSampler,
    SpaceExhausted,
    distributions,
    make_sampler,
    place_seed,
    suggest,
)
from nas.study.search.tpe import Tpe

SMALL = {
    "schema": 1,
    "choices": {
        "pattern": ["none", "p1"],
        "attention": ["se"],
        "reduction": [16],
        "lambda_init": [1.0],
        "learnable": [False],
        "gate_init": ["textbook"],
    },
}


def claims() -> tuple[dict[str, int], Callable[[int, Architecture], bool]]:
    owners: dict[str, int] = {}
    return owners, lambda trial_id, a: owners.setdefault(a.digest, trial_id) == trial_id


def drawn(name: str, space: SearchSpace, count: int, seed: int = 0) -> list[str]:
    _, claim = claims()
    study = optuna.create_study(
        direction="maximize", sampler=FusionSampler(space, name, seed, claim=claim, owned=lambda _: None)
    )
    digests = []
    for _ in range(count):
        trial = study.ask()
        digest = suggest(trial, space).digest
        study.tell(trial, int(digest[:6], 16) / 16**6)
        digests.append(digest)
    return digests


@pytest.mark.parametrize("name", ["tpe", "random", "nsga2", "evolution"])
def test_no_network_twice_until_the_space_is_exhausted(name: str) -> None:
    space = SearchSpace.from_dict(SMALL)
    assert space.size == 16
    assert len(set(drawn(name, space, 16))) == 16
    with pytest.raises(SpaceExhausted, match="all 16 architectures"):
        drawn(name, space, 17)


@pytest.mark.parametrize("name", ["tpe", "random", "nsga2", "evolution"])
def test_the_seed_decides(name: str) -> None:
    space = SearchSpace.load("full")
    assert drawn(name, space, 20, seed=1) == drawn(name, space, 20, seed=1)
    assert drawn(name, space, 20, seed=1) != drawn(name, space, 20, seed=2)


def study_of_60(directions: list[str], space: SearchSpace) -> optuna.Study:
    """60 trials of every kind; the last ones run, and one has told what it is about to be."""
    study = optuna.create_study(directions=directions, sampler=optuna.samplers.RandomSampler(seed=0))
    rng = np.random.default_rng(0)
    for number in range(60):
        trial = study.ask()
        suggest(trial, space)
        values = [float(value) for value in rng.integers(0, 20, len(directions))]  # with ties
        if number % 7 == 0:
            trial.set_constraint("size", float(rng.random()) - 0.5)
        if number % 5 == 0 and number < 57:
            for step, value in enumerate(values) if len(directions) == 1 else ():
                trial.report(value, step)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif number < 57:
            study.tell(trial, values)
    return study


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"], ["maximize", "minimize", "minimize"]])
@pytest.mark.parametrize("constant_liar", [True, False])
@pytest.mark.parametrize("max_counted", [parzen.MAX_COUNTED, 1])
def test_tpe_draws_what_optuna_draws(
    directions: list[str], constant_liar: bool, max_counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parzen, "MAX_COUNTED", max_counted)
    space = SearchSpace.load("full")
    study, known = study_of_60(directions, space), distributions(space)
    joint = {name: known[name] for name in space.joint_choices()}
    ours = Tpe(seed=3, history=History(known), constant_liar=constant_liar)
    theirs = optuna.samplers.TPESampler(seed=3, constant_liar=constant_liar)
    trial = study.get_trials(deepcopy=False)[-1]
    for _ in range(4):  # several candidates of one trial
        assert ours.sample_relative(study, trial, joint) == theirs.sample_relative(study, trial, joint)
        for name in sorted(known):
            args = (study, trial, name, known[name])
            assert ours.sample_independent(*args) == theirs.sample_independent(*args)


def test_no_two_places_share_a_seed() -> None:
    seeds = {place_seed(study, number) for study in range(4) for number in range(2000)}
    assert len(seeds) > 4 * 2000 - 5  # 32-bit seeds may collide by chance, never by construction


def test_tpe_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a score that rewards p1 alone, TPE finds more of it than chance does."""
    space = SearchSpace.load("patterns")

    def num_p1(name: str, seed: int) -> int:
        _, claim = claims()
        study = optuna.create_study(
            direction="maximize", sampler=FusionSampler(space, name, seed, claim=claim, owned=lambda _: None)
        )
        total = 0
        for number in range(60):
            trial = study.ask()
            score = sum(stage.pattern == "p1" for stage in suggest(trial, space).stages)
            study.tell(trial, score)
            total += score if number >= 30 else 0
        return total

    tpe, random = (sum(num_p1(name, seed) for seed in range(3)) for name in ("tpe", "random"))
    assert tpe > 1.5 * random


def test_a_trial_that_is_drawn_again_keeps_its_parameters() -> None:
    space = SearchSpace.load("full")
    _, claim = claims()
    study = optuna.create_study(sampler=FusionSampler(space, "tpe", 0, claim=claim, owned=lambda _: None))
    trial = study.ask()
    first = suggest(trial, space)
    study._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.WAITING)
    again = study.ask()
    assert again.number == trial.number
    assert suggest(again, space) == first


def test_all_parameters_stand_in_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    space = SearchSpace.load("full")
    _, claim = claims()
    study = optuna.create_study(sampler=FusionSampler(space, "random", 0, claim=claim, owned=lambda _: None))
    trial = study.ask()
    architecture = suggest(trial, space)
    assert space.decode(lambda name, _: trial.params[name]) == architecture


def test_every_name_is_a_sampler() -> None:
    history = History(distributions(SearchSpace.load("full")))
    assert isinstance(make_sampler("tpe", 1, history), Tpe)
    assert isinstance(make_sampler("random", 1, history), optuna.samplers.RandomSampler)


def test_what_a_broken_off_attempt_has_claimed_is_drawn_again() -> None:
    """A worker died after its claim and before the parameters were stored; others have finished trials since."""
    space = SearchSpace.load("full")
    claimed = space.sample(np.random.default_rng(5))
    sampler = FusionSampler(space, "tpe", 0, claim=lambda *_: False, owned=lambda _: claimed)
    study = optuna.create_study(sampler=sampler)
    assert suggest(study.ask(), space).digest == claimed.digest
