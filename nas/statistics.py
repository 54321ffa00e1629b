"""Statistics that need nothing but the standard library, so that a status is told at once."""

import math
from collections.abc import Sequence

LEVEL = 0.05
"""Share of studies without a difference in which one may be claimed."""


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: the probability of any false claim stays below the level (S. Holm 1979)."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def wilson_interval(score: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of an accuracy measured on ``count`` images (Wilson 1927): sampling of images, not of seeds."""
    centre = (score + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(score * (1 - score) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return centre - half, centre + half


def p_text(p_value: float) -> str:
    """A p-value for people, with as many digits as it takes to see on which side of `LEVEL` it lies."""
    texts = (f"{p_value:.{digits}g}" for digits in range(2, 18))
    return next(text for text in texts if (float(text) <= LEVEL) == (p_value <= LEVEL))
