import re

import numpy as np
import pytest

from nas.bench.race import Setting, Yardstick, race, regret_curve, stopped_early
from nas.bench.table import Table
from nas.errors import UserError
from nas.study.search.replay import ReplayedTrial
from tests.bench.conftest import STEP, additive_quality, planted


def test_regret_is_judged_by_the_seeds_that_a_replay_does_not_see(noisy: Table) -> None:
    final = noisy.accuracy[:, :, -1]
    yardstick = Yardstick.of(noisy, 1)
    assert yardstick.quality == pytest.approx((final[:, 0] + final[:, 2]) / 2)
    best = int(yardstick.quality.argmax())
    assert yardstick.regret(best) == 0
    assert yardstick.regret(3) == pytest.approx(yardstick.quality[best] - yardstick.quality[3])


def test_regret_falls_when_a_better_trial_ends_and_stopped_epochs_are_spent(additive: Table) -> None:
    yardstick = Yardstick.of(additive, 0)
    order = np.argsort(yardstick.quality)
    worst, middle, best = (additive.architectures[order[i]] for i in (0, 312, -1))
    trials = [
        ReplayedTrial(architecture=middle, num_epochs=9, score=0.4),
        ReplayedTrial(architecture=best, num_epochs=3, score=None),  # stopped: cannot win
        ReplayedTrial(architecture=worst, num_epochs=9, score=0.3),  # seen to be worse
        ReplayedTrial(architecture=best, num_epochs=9, score=0.7),
    ]
    rows = {architecture: row for row, architecture in enumerate(additive.architectures)}
    found = regret_curve(trials, rows, yardstick, np.array([8, 9, 20, 21, 29, 30]))
    lacking = yardstick.regret(rows[middle])
    assert found == pytest.approx([yardstick.blind, lacking, lacking, lacking, lacking, 0])


def test_a_sampler_that_learns_wins_where_choices_add_up(additive: Table) -> None:
    found = race(additive, samplers=("random", "tpe", "evolution"), pruners=("none",), replays=8, full_trainings=40)
    random, tpe, evolution = (runner.mean[-1] for runner in found.runners)
    assert tpe < random - STEP / 2
    assert evolution < random
    against = dict(found.against(Setting(sampler="random", pruner="none"), 39))
    assert against[Setting(sampler="tpe", pruner="none")].found
    assert found.exhaustive == 0


def test_no_sampler_wins_where_scores_are_noise() -> None:
    noise = planted(np.full(625, 0.5), noise=0.05)
    found = race(noise, samplers=("random", "grid", "tpe"), pruners=("none",), replays=9, full_trainings=15)
    against = found.against(Setting(sampler="random", pruner="none"), 14)
    assert not any(difference.found for _, difference in against)
    assert all(runner.mean[-1] == pytest.approx(found.blind, abs=0.03) for runner in found.runners)


def test_stopping_spends_fewer_epochs_on_each_trial_and_gets_further(additive: Table) -> None:
    found = race(additive, samplers=("random",), pruners=("none", "asha"), replays=12, full_trainings=15)
    whole, stopped = found.runners
    assert whole.num_trials == 15
    assert stopped.num_trials > 30
    assert stopped.mean[-1] < whole.mean[-1]


def test_a_partial_table_is_raced_on_what_it_holds() -> None:
    table = planted(additive_quality(), num_rows=20)
    found = race(table, samplers=("tpe",), pruners=("none",), replays=2, full_trainings=30)
    assert found.num_architectures == 20
    assert found.runners[0].num_trials == 20
    assert found.runners[0].mean[-1] == 0


def test_workers_change_nothing(additive: Table) -> None:
    alone, many = (
        race(additive, samplers=("random",), pruners=("none",), replays=7, full_trainings=5, workers=workers)
        for workers in (1, 2)
    )
    assert np.array_equal(alone.runners[0].regret, many.runners[0].regret)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"samplers": ("best",)}, "unknown sampler 'best'; expected one of tpe, random, nsga2, gp, grid, evolution"),
        ({"pruners": ("hyperband",)}, "unknown pruner 'hyperband'; expected one of none, median, asha"),
        ({"replays": 1}, "replays: expected at least 2, got 1"),
    ],
)
def test_what_cannot_be_raced_is_one_line(additive: Table, given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        race(additive, **given)  # type: ignore[arg-type]


def test_too_small_a_table_is_one_line() -> None:
    with pytest.raises(UserError, match="expected at least 8 architectures with every seed, got 3"):
        race(planted(additive_quality(), num_rows=3))


def test_curves_that_never_cross_rank_rightly_from_the_first_epoch(noisy: Table) -> None:
    found = stopped_early(planted(additive_quality(), noise=0.01, num_rows=80))
    assert [fidelity.name for fidelity in found.fidelities] == [
        "after 1 epoch",
        *(f"after {k} epochs" for k in range(2, 9)),
    ]
    assert [fidelity.cost_share for fidelity in found.fidelities] == pytest.approx(np.arange(1, 9) / 9)
    assert found.fidelities[0].rest == pytest.approx(found.ceiling.value, abs=0.02)
