import numpy as np
import pytest

from nas.bench.effects import Additive, by_fused_stages, seed_share, spoken
from nas.bench.table import Table, bench_space
from nas.errors import UserError
from nas.study.search.importance import fanova
from tests.bench.conftest import GOOD, STEP, additive_quality, planted


def test_additive_effects_are_found_in_a_partial_table() -> None:
    model = Additive(planted(additive_quality(), noise=STEP / 10, num_rows=120))
    for marginal in model.marginals():
        rest = 0.3 + 3 * STEP / 5
        truth = rest + (STEP if marginal.pattern == GOOD[marginal.stage - 1] else 0)
        assert marginal.mean == pytest.approx(truth, abs=STEP / 10)
        assert marginal.low - STEP / 20 < truth < marginal.high + STEP / 20
        assert marginal.num_architectures == sum(
            a.stages[marginal.stage - 1].pattern == marginal.pattern for a in model.table.architectures
        )


def test_marginals_of_the_whole_table_are_plain_means(noisy: Table) -> None:
    model = Additive(noisy)
    for marginal in model.marginals():
        rows = [a.stages[marginal.stage - 1].pattern == marginal.pattern for a in noisy.architectures]
        assert marginal.mean == pytest.approx(noisy.accuracy[rows, :, -1].mean())


def test_contrasts_are_sums_of_effects(noisy: Table) -> None:
    good, nothing, early = Additive(noisy).contrasts(
        {
            "p3 in stage 1": {(1, "p3"): 1},
            "p2 in stage 2": {(2, "p2"): 1},
            "p1 in stages 1 and 2": {(1, "p1"): 0.5, (2, "p1"): 0.5},
        }
    )
    assert good.value == pytest.approx(STEP, abs=STEP / 10)
    assert good.found
    assert not nothing.found
    assert early.value == pytest.approx(STEP / 2, abs=STEP / 10)
    assert early.low < STEP / 2 < early.high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    held = []
    for _ in range(40):
        table = planted(additive_quality() + 0.05 * random.standard_normal(625), num_rows=150)
        held += [c.low < 0 < c.high for c in Additive(table).contrasts({"x": {(1, "p2"): 1}, "y": {(4, "p1"): 1}})]
    assert np.mean(held) == pytest.approx(0.95, abs=0.06)


def test_an_interaction_is_told_from_a_sum() -> None:
    table = planted(additive_quality())
    together = np.array([a.stages[0].pattern == a.stages[3].pattern == "p2" for a in table.architectures])
    table = planted(additive_quality() + 0.2 * together, noise=0.02)
    pairs = Additive(table).components(2)
    assert pairs[0].stages == (1, 4)
    assert pairs[0].p_adjusted < 1e-6
    assert all(pair.share < 0.005 for pair in pairs[1:])
    singles = Additive(planted(additive_quality(), noise=0.02)).components(1)
    assert [single.share for single in singles] == pytest.approx([0.25] * 4, abs=0.02)


def test_what_is_all_noise_explains_nothing() -> None:
    table = planted(np.full(625, 0.5), noise=0.05, num_rows=300)
    model = Additive(table)
    assert all(part.share < 0.08 and part.p_adjusted > 0.01 for n in (1, 2) for part in model.components(n))
    assert seed_share(table) == pytest.approx(1, abs=0.15)
    assert seed_share(planted(additive_quality(), noise=0.001)) < 0.001


def test_signals_are_counted_where_they_spoke(additive: Table) -> None:
    table = planted(additive_quality())
    at = table.meta["signals"].index("skip-closed")
    p2_first = np.array([a.stages[0].pattern == "p2" for a in table.architectures])
    table.spoke[p2_first, 0, at] |= 1 << 1
    shares = spoken(table, "skip-closed")
    assert shares[0] == pytest.approx([0, 0, 1 / 3, 0, 0])
    assert not shares[1:].any()


def test_architectures_are_grouped_by_how_many_stages_are_fused(additive: Table) -> None:
    groups = by_fused_stages(additive)
    assert {count: len(means) for count, means in groups.items()} == {0: 1, 1: 16, 2: 96, 3: 256, 4: 256}


def test_too_small_a_table_is_one_line() -> None:
    with pytest.raises(UserError, match="expected more than 17 architectures with every seed to tell effects, got 15"):
        Additive(planted(additive_quality(), num_rows=15))


def test_fanova_finds_the_only_choice_that_matters(additive: Table) -> None:
    scores = {a: 0.5 + 0.1 * (a.stages[2].pattern == "p4") for a in additive.architectures[::3]}
    found = fanova(bench_space(), scores)
    assert next(iter(found)) == "stage3.pattern"
    assert found["stage3.pattern"] > 0.95
