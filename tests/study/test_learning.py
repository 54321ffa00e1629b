"""What the sampler makes of trials that broke."""

import numpy as np
import optuna
import pytest

from nas.architecture import Architecture
from nas.space.space import SearchSpace
from nas.study.search.sampler import FusionSampler, suggest

SEEDS = range(3)


def num_broken(sampler: str, num_objectives: int, seed: int) -> int:
    """Visits of p4 in the last stage among trials 20 to 49, where each of them is pruned at once, without a value."""
    space = SearchSpace.load("full")
    owners: dict[str, int] = {}

    def claim(trial_id: int, architecture: Architecture) -> bool:
        return owners.setdefault(architecture.digest, trial_id) == trial_id

    study = optuna.create_study(
        directions=["maximize"] * num_objectives,
        sampler=FusionSampler(space, sampler, seed, claim=claim, owned=lambda _: None),
    )
    noise = np.random.default_rng(seed)
    visits = []
    for _ in range(50):
        trial = study.ask()
        architecture = suggest(trial, space)
        broke = architecture.stages[3].pattern == "p4"
        visits.append(broke)
        if broke:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            num_p1 = sum(stage.pattern == "p1" for stage in architecture.stages)
            study.tell(trial, list(num_p1 + noise.standard_normal(num_objectives)))
    return sum(visits[20:])


@pytest.mark.parametrize("num_objectives", [1, 2])
def test_tpe_leaves_an_unstable_region(num_objectives: int) -> None:
    tpe, random = (sum(num_broken(s, num_objectives, seed) for seed in SEEDS) for s in ("tpe", "random"))
    assert tpe < 0.75 * random
