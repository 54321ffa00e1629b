"""Tables whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from nas.bench.table import Table, Values

NUM_VAL = 10_000
GOOD = ("p3", "p1", "none", "p4")
"""The pattern of each stage that the planted table rewards; each is worth `STEP`."""
STEP = 0.1


def planted(quality: Values, *, noise: float = 0.0, num_rows: int | None = None) -> Table:
    """A table whose curves rise in equal steps to ``quality`` (A,), with seed noise; only ``num_rows`` are made."""
    empty = Table.empty({"num_val": NUM_VAL, "makers": [{}], "fingerprint": "planted"})
    A, S, E = empty.correct.shape
    final = quality[:, None] + noise * np.random.default_rng(3).standard_normal((A, S))
    curves = final[:, :, None] * np.arange(1, E + 1) / E
    correct = np.rint(curves * NUM_VAL).astype(np.uint16)
    if num_rows is not None:
        correct[num_rows:] = empty.correct[num_rows:]
    return replace(empty, correct=correct, cost_s=np.ones((A, S), np.float32))


def additive_quality() -> Values:
    """(A,): 0.3, and `STEP` for each stage that holds its good pattern."""
    architectures = Table.empty({"num_val": NUM_VAL, "makers": []}).architectures
    hits = [sum(stage.pattern == good for stage, good in zip(a.stages, GOOD, strict=True)) for a in architectures]
    return np.asarray(0.3 + STEP * np.array(hits))


@pytest.fixture(scope="session")
def additive() -> Table:
    """Every stage has one good pattern; no noise."""
    return planted(additive_quality())


@pytest.fixture(scope="session")
def noisy() -> Table:
    """The same under seed noise of half a step."""
    return planted(additive_quality(), noise=STEP / 2)
