"""Ranking with several objectives, against definitions written out by hand."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.objectives import hypervolume
from nas.study.pareto import best_first, crowding, dominance_ranks


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def peeled(losses: np.ndarray) -> list[int]:
    """Ranks by their definition: one front after the other, each pair compared."""
    ranks, left, rank = [0] * len(losses), set(range(len(losses))), 0
    while left:
        members = {i for i in left if not any(dominates(losses[j], losses[i]) for j in left)}
        for i in members:
            ranks[i] = rank
        left, rank = left - members, rank + 1
    return ranks


@st.composite
def candidates(draw: st.DrawFn) -> np.ndarray:
    """Up to 25 candidates of one to five objectives, with ties and equals."""
    num_objectives = draw(st.integers(1, 5))
    value = st.integers(-3, 3).map(float)
    return np.array(draw(st.lists(st.tuples(*[value] * num_objectives), max_size=25))).reshape(-1, num_objectives)


@given(candidates())
def test_ranks_peel_one_front_after_the_other(losses: np.ndarray) -> None:
    assert dominance_ranks(losses).tolist() == peeled(losses)


@given(candidates(), st.integers(1, 4))
def test_what_lies_behind_the_fronts_that_are_asked_for_is_not_told_apart(losses: np.ndarray, num_fronts: int) -> None:
    assert dominance_ranks(losses, num_fronts).tolist() == [min(rank, num_fronts) for rank in peeled(losses)]


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
def test_no_pair_is_written_down(num_objectives: int) -> None:
    """Ten thousand candidates: all pairs would need hundreds of megabytes."""
    losses = np.random.default_rng(0).random((10_000, num_objectives))
    losses[: len(losses) // 2] = losses[0]  # equals are one candidate
    tracemalloc.start()
    ranks = dominance_ranks(losses, num_fronts=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert ranks[0] == ranks[1] <= 1


def test_crowding_by_hand() -> None:
    losses = np.array([[0.0, 10.0], [1.0, 6.0], [4.0, 2.0], [10.0, 0.0]])
    assert crowding(losses).tolist() == pytest.approx([np.inf, 4 / 10 + 8 / 10, 9 / 10 + 6 / 10, np.inf])


def test_equal_members_share_no_room() -> None:
    losses = np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    assert crowding(losses).tolist() == [np.inf, 2.0, 0.0, np.inf]


def test_the_order_is_by_rank_then_by_room_then_as_they_came() -> None:
    losses = np.array([[9.0, 9.0], [0.0, 10.0], [1.0, 6.0], [4.0, 2.0], [10.0, 0.0]])
    assert best_first(losses).tolist() == [1, 4, 3, 2, 0]  # the ends, the lonely before the crowded, the dominated
    assert best_first(np.array([[3.0], [1.0], [2.0], [1.0]])).tolist() == [1, 3, 2, 0]


@pytest.mark.parametrize("count", [0, 1, 40, 199, 200])
@pytest.mark.parametrize("losses", [np.random.default_rng(3).random((200, 3)), np.arange(400.0).reshape(200, 2)])
def test_the_best_alone_are_the_beginning_of_the_whole_order(losses: np.ndarray, count: int) -> None:
    assert best_first(losses, count).tolist() == best_first(losses)[:count].tolist()


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
def test_hypervolume_counts_cells(num_objectives: int) -> None:
    """Whole coordinates: the volume is the number of unit cells that some member dominates."""
    losses = np.random.default_rng(7).integers(0, 9, (12, num_objectives)).astype(float)
    reference = np.full(num_objectives, 8.0)
    cells = itertools.product(range(8), repeat=num_objectives)
    counted = sum(any((member <= cell).all() for member in losses) for cell in map(np.array, cells))
    assert hypervolume(losses, reference) == counted


def test_nothing_is_dominated_beyond_the_reference() -> None:
    assert hypervolume(np.array([[2.0, 2.0]]), np.array([1.0, 1.0])) == 0.0
    assert hypervolume(np.empty((0, 2)), np.array([1.0, 1.0])) == 0.0
    assert best_first(np.empty((0, 2))).tolist() == []
