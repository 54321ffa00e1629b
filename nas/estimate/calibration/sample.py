"""Which architectures of a space a calibration trains."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.architecture import Architecture
from nas.space.landmarks import LANDMARKS, landmark_in
from nas.space.space import SearchSpace

POOL = 20
"""Random architectures for each one that a space-filling sample takes."""


def spread_sample(space: SearchSpace, count: int, seed: int) -> tuple[Architecture, ...]:
    """Landmarks of the space, and architectures that differ from those before in as many choices as can be.

    Greedy maximin over a random pool (R. Kennard and L. Stone, Computer aided design of experiments, 1969).
    """
    random = np.random.default_rng([seed, count])
    known = (landmark_in(space, name).canonical() for name in LANDMARKS)
    chosen = list({a.digest: a for a in known if a in space}.values())[:count]
    if not chosen:
        chosen = [space.sample(random).canonical()]
    drawn = (
        (space.sample(random).canonical() for _ in range(POOL * count))
        if space.size > POOL * count
        else (space.architectures())
    )
    pool = list({a.digest: a for a in drawn}.values())
    features = [_features(a) for a in pool]
    nearest = np.min([[_distance(_features(c), f) for f in features] for c in chosen], axis=0)
    while len(chosen) < count and nearest.max() > 0:
        best = int(nearest.argmax())
        chosen.append(pool[best])
        nearest = np.minimum(nearest, [_distance(features[best], f) for f in features])
    return tuple(chosen)


def _features(architecture: Architecture) -> list[Mapping[str, Any]]:
    return [{"norm": architecture.norm}, *(stage.to_dict() for stage in architecture.stages)]


def _distance(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> float:
    """Sum over norm and stages of the share of fields that differ."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        names = x.keys() | y.keys()
        total += sum(x.get(name) != y.get(name) for name in names) / len(names)
    return total
