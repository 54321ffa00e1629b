"""What a guard makes of a run that was recorded: no training is needed to ask again with other rules."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.guarding.record import BLOCK_FIELDS, EPOCH_FIELDS
from nas.measurement import StabilityEvent
from nas.training.guard import Guard
from nas.training.signals.reading import BlockReading, EpochReading, Observation

WHOLE = {"epoch", "step", "stage", "block", "num_epochs", "num_val", "num_blocks"}
TRUTH = {"warm", "last"}


@dataclass(frozen=True)
class Recorded:
    """One run without a guard."""

    steps: NDArray[np.float32]
    """(N, 3): epoch, loss, gradient norm."""
    blocks: NDArray[np.float32]
    """(M, len(BLOCK_FIELDS))."""
    epochs: NDArray[np.float64]
    """(E, len(EPOCH_FIELDS))."""
    looks: NDArray[np.float32]
    """(E, 3): balanced accuracy of validation; its accuracy and loss with settled batch norm."""

    @classmethod
    def load(cls, path: Path) -> "Recorded":
        """Read what `record` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(**{name: file[name] for name in ("steps", "blocks", "epochs", "looks")})

    @property
    def readings(self) -> list[EpochReading]:
        """One for each epoch."""
        return [EpochReading(**_typed(EPOCH_FIELDS, row)) for row in self.epochs.tolist()]

    def observations(self) -> Iterator[Observation]:
        """One for each step."""
        for step, (epoch, loss, norm) in enumerate(self.steps.tolist()):
            yield Observation(epoch=int(epoch), step=step, loss=loss, grad_norm=norm)

    def inspections(self) -> dict[int, list[BlockReading]]:
        """By step."""
        every = [BlockReading(**_typed(BLOCK_FIELDS, row)) for row in self.blocks.tolist()]
        return {step: list(rows) for step, rows in groupby(every, lambda seen: seen.step)}


def _typed(names: tuple[str, ...], row: list[float]) -> dict[str, Any]:
    given = {}
    for name, value in zip(names, row, strict=True):
        if name in WHOLE:
            given[name] = int(value)
        elif name in TRUTH:
            given[name] = bool(value)
        else:
            optional = name in ("skip_factor", "gate_slope", "batch_accuracy")
            given[name] = None if optional and np.isnan(value) else value
    return given


def replay(run: Recorded, guard: Guard) -> StabilityEvent | None:
    """The event that ends the run, looked at as on a CPU: after each step."""
    inspections, readings = run.inspections(), {seen.epoch: seen for seen in run.readings}
    for epoch, steps in groupby(run.observations(), lambda seen: seen.epoch):
        for seen in steps:
            event = guard.observe(seen)
            if event is None and seen.step in inspections:
                event = guard.inspect(inspections[seen.step])
            if event is not None:
                return event
        if epoch in readings and (event := guard.judge(readings[epoch])) is not None:
            return event
    return None
