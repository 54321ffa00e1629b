import re

import numpy as np
import pytest

from nas.architecture import Architecture
from nas.errors import UserError
from nas.space.space import SearchSpace
from nas.study.config import PrunerConfig
from nas.study.search.replay import replay

SPACE = SearchSpace.from_dict({"schema": 1, "extends": "patterns"})
NONE = PrunerConfig(name="none")


def curves(count: int, length: int = 9) -> dict[Architecture, list[float]]:
    """Rising curves to random heights, for the first architectures of a random order."""
    random = np.random.default_rng(0)
    every = list(SPACE.architectures())
    chosen = [every[i].canonical() for i in random.permutation(len(every))[:count]]
    return {a: list(random.random() * np.arange(1, length + 1) / length) for a in chosen}


@pytest.mark.parametrize("sampler", ["random", "grid", "tpe", "nsga2", "evolution"])
def test_only_known_curves_are_drawn_each_once_and_in_full(sampler: str) -> None:
    known = curves(100)
    trials = replay(SPACE, known, sampler=sampler, pruner=NONE, num_epochs=30 * 9, seed=1)
    assert len(trials) == 30
    assert len({trial.architecture for trial in trials}) == 30
    assert all(trial.num_epochs == 9 and trial.score == known[trial.architecture][-1] for trial in trials)


def test_epochs_of_stopped_trials_count_and_their_scores_do_not() -> None:
    trials = replay(SPACE, curves(300), sampler="random", pruner=PrunerConfig(name="asha"), num_epochs=270, seed=1)
    stopped = [trial for trial in trials if trial.score is None]
    assert {trial.num_epochs for trial in stopped} == {1, 3}  # the rungs
    assert sum(trial.num_epochs for trial in trials[:-1]) < 270 <= sum(trial.num_epochs for trial in trials)
    assert len(trials) > 60


def test_the_median_pruner_spares_its_first_trials() -> None:
    pruner = PrunerConfig(startup_trials=8, warmup_epochs=2)
    trials = replay(SPACE, curves(300), sampler="random", pruner=pruner, num_epochs=270, seed=1)
    assert all(trial.score is not None for trial in trials[:8])
    assert {trial.num_epochs for trial in trials if trial.score is None} == {2}  # curves never cross


def test_a_replay_is_a_function_of_its_seed() -> None:
    known = curves(100)

    def drawn(seed: int) -> list[Architecture]:
        trials = replay(SPACE, known, sampler="tpe", pruner=NONE, num_epochs=180, seed=seed)
        return [trial.architecture for trial in trials]

    assert drawn(1) == drawn(1) != drawn(2)


def test_it_ends_when_every_curve_has_been_drawn() -> None:
    assert len(replay(SPACE, curves(12), sampler="tpe", pruner=NONE, num_epochs=10_000, seed=1)) == 12


def test_curves_outside_the_space_are_never_drawn() -> None:
    inside, outside = curves(5), Architecture.plain(SPACE.backbone, num_classes=7)
    known = {**inside, outside: [0.1] * 9}
    trials = replay(SPACE, known, sampler="grid", pruner=NONE, num_epochs=10_000, seed=1)
    assert {trial.architecture for trial in trials} == inside.keys()


def test_no_curve_is_one_line() -> None:
    with pytest.raises(UserError, match=re.escape("expected learning curves to play back, got none")):
        replay(SPACE, {}, sampler="tpe", pruner=NONE, num_epochs=9, seed=1)
