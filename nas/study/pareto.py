"""Ranking with several objectives: non-dominated sorting, crowding, and the order that follows from both.

Shapes: N candidates, M objectives. ``losses`` is (N, M), finite, and smaller is better in every column.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.study.goals import Objectives

Losses = NDArray[np.float64]
FEW_FRONTS = 8
"""Fronts that are told apart at first, where only the best are asked for."""


def losses_of(goals: Objectives, rows: Sequence[Sequence[float]]) -> Losses:
    """(N, M): values of N candidates, turned so that smaller is better."""
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in goals.directions.values()]
    return np.array(rows, dtype=float).reshape(-1, len(signs)) * signs


def front(goals: Objectives, rows: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the candidates that none dominates; with one objective of those that share the best value."""
    return np.flatnonzero(dominance_ranks(losses_of(goals, rows), num_fronts=1) == 0).tolist()


def dominance_ranks(losses: Losses, num_fronts: int | None = None) -> NDArray[np.int64]:
    """(N,): 0 on the front, 1 on the front of the rest, and so on (non-dominated sorting, K. Deb et al., 2002).

    What lies behind the first ``num_fronts`` is not told apart: it gets that number as its rank. Candidates enter
    their front one after the other, none before one that dominates it, and look for it by bisection (X. Zhang et
    al., An Efficient Approach to Nondominated Sorting, 2015): N log² N steps with up to three objectives.
    """
    # In the order of the first objective, then the next: what dominates another comes before it.
    distinct, place = np.unique(losses, axis=0, return_inverse=True)
    last = len(distinct) if num_fronts is None else num_fronts
    if losses.shape[1] == 1:
        return np.minimum(place.reshape(-1), last)
    new_front = _Staircase if losses.shape[1] <= _Staircase.MOST_OBJECTIVES else _Members
    fronts: list[_Staircase | _Members] = []
    ranks = np.empty(len(distinct), dtype=np.int64)
    for i, row in enumerate(distinct[:, 1:].tolist()):
        rank = bisect_left(fronts, True, key=lambda known: not known.dominates(row))
        ranks[i] = rank
        if rank == len(fronts) < last:
            fronts.append(new_front())
        if rank < last:
            fronts[rank].add(row)
    return ranks[place.reshape(-1)]


class _Staircase:
    """A front as its later members see it, with two or three objectives, of which the first is behind them.

    Of its members only those count that none surpasses in the other objectives: second values that rise, with third
    values that fall.
    """

    MOST_OBJECTIVES = 3

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._thirds: list[float] = []

    def dominates(self, row: Sequence[float]) -> bool:
        """Whether a member is nowhere worse than a candidate that comes after it."""
        below = bisect_right(self._seconds, row[0])
        return below > 0 and self._thirds[below - 1] <= (row[1] if len(row) > 1 else 0.0)

    def add(self, row: Sequence[float]) -> None:
        """Let a candidate in that no member dominates."""
        second, third = row[0], row[1] if len(row) > 1 else 0.0
        start = end = bisect_left(self._seconds, second)
        while end < len(self._thirds) and self._thirds[end] >= third:
            end += 1
        self._seconds[start:end], self._thirds[start:end] = [second], [third]


class _Members:
    """The same with more objectives: all members, held against a candidate at once."""

    def __init__(self) -> None:
        self._rows = np.empty((0, 0))
        self._count = 0

    def dominates(self, row: Sequence[float]) -> bool:
        """Whether a member is nowhere worse than a candidate that comes after it."""
        return bool((self._rows[: self._count] <= row).all(axis=1).any())

    def add(self, row: Sequence[float]) -> None:
        """Let a candidate in that no member dominates."""
        if self._count == len(self._rows):
            more = np.empty((max(16, self._count), len(row)))
            self._rows = np.concatenate([self._rows.reshape(-1, len(row)), more])
        self._rows[self._count] = row
        self._count += 1


def crowding(losses: Losses) -> Losses:
    """(N,): how much room a member of one front has (crowding distance, Deb et al., 2002); infinite at the ends.

    Of equal members one is given room and the others none.
    """
    room = np.zeros(len(losses))
    _, first = np.unique(losses, axis=0, return_index=True)
    for column in losses[first].T:
        order = np.argsort(column, kind="stable")
        spread = column[order[-1]] - column[order[0]]
        gaps = (column[order[2:]] - column[order[:-2]]) / spread if spread > 0 else 0.0
        room[first[order[1:-1]]] += gaps
        room[first[order[[0, -1]]]] = np.inf
    return room


def best_first(losses: Losses, count: int | None = None) -> NDArray[np.int64]:
    """Indices from best to worst: by rank, within a rank by crowding, then as they came; the first ``count`` of them.

    With one objective this is plain sorting. What lies far behind the first ``count`` is not told apart.
    """
    wanted = len(losses) if count is None else count
    num_fronts = FEW_FRONTS if wanted < len(losses) else None
    ranks = dominance_ranks(losses, num_fronts)
    while num_fronts is not None and np.count_nonzero(ranks < num_fronts) < wanted:
        num_fronts *= 2
        ranks = dominance_ranks(losses, num_fronts)
    room = np.zeros(len(losses))
    for rank in range(int(np.sort(ranks)[:wanted].max(initial=-1)) + 1):
        room[ranks == rank] = crowding(losses[ranks == rank])
    return np.lexsort((np.arange(len(losses)), -room, ranks))[:wanted]
