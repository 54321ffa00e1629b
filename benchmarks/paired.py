"""What is compared runs in turns, so that whatever else the machine does falls on all of it alike."""

from collections.abc import Callable
from statistics import median
from typing import Any

Ratio = dict[str, Any]


def in_turns(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each of the runs once a round."""
    values: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs)[:: 1 if number % 2 == 0 else -1]:
            values[name].append(round(runs[name](), 4))
    return values


def ratio(values: dict[str, list[float]], above: str, below: str) -> Ratio:
    """Median, smallest and largest of the ratios within a round."""
    each = sorted(a / b for a, b in zip(values[above], values[below], strict=True))
    return {"ratio": median(each), "low": each[0], "high": each[-1], "values": values}
