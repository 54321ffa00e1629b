"""Ranking with several objectives: non-dominated sorting, crowding, and the order that follows from both.

Shapes: N candidates, M objectives. ``losses`` is (N, M), finite, and smaller is better in every column.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.study.goals import Objectives

Losses = NDArray[np.float64]


def losses_of(goals: Objectives, rows: Sequence[Sequence[float]]) -> Losses:
    """(N, M): values of N candidates, turned so that smaller is better."""
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in goals.directions.values()]
    return np.array(rows, dtype=float).reshape(-1, len(signs)) * signs


def front(goals: Objectives, rows: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the candidates that none dominates; with one objective of those that share the best value."""
    return [i for i, rank in enumerate(dominance_ranks(losses_of(goals, rows))) if rank == 0]


def dominance_ranks(losses: Losses) -> NDArray[np.int64]:
    """(N,): 0 on the front, 1 on the front of the rest, and so on (non-dominated sorting, K. Deb et al., 2002)."""
    if losses.shape[1] == 1:  # as many fronts as values: no need to peel them off one by one
        return np.unique(losses[:, 0], return_inverse=True)[1].astype(np.int64)
    one, other = losses[:, None], losses[None]
    dominates: NDArray[np.bool_] = np.all(one <= other, axis=2) & np.any(one < other, axis=2)
    ranks = np.full(len(losses), -1)
    rank = 0
    while (left := ranks < 0).any():
        ranks[left & ~dominates[left].any(0)] = rank
        rank += 1
    return ranks


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


def best_first(losses: Losses) -> NDArray[np.int64]:
    """(N,): indices from best to worst: by rank, within a rank by crowding, then as they came.

    With one objective this is plain sorting.
    """
    ranks = dominance_ranks(losses)
    room = np.zeros(len(losses))
    for rank in np.unique(ranks):
        room[ranks == rank] = crowding(losses[ranks == rank])
    return np.lexsort((np.arange(len(losses)), -room, ranks))


def hypervolume(losses: Losses, reference: Losses) -> float:
    """What a set dominates of the box below ``reference`` (M,); exact, by slicing along the last objective.

    E. Zitzler and L. Thiele, 1999. Meant for a few hundred candidates and two or three objectives.
    """
    inside = losses[(losses < reference).all(1)]
    if inside.shape[1] == 1 or not len(inside):
        return float(reference[0] - inside[:, 0].min()) if len(inside) else 0.0
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    edges = np.append(inside[:, -1], reference[-1])
    slices = (hypervolume(inside[: i + 1, :-1], reference[:-1]) for i in range(len(inside)))
    return float(sum(area * height for area, height in zip(slices, np.diff(edges), strict=True)))
