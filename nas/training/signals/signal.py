"""What a signal is: it watches one symptom over one run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from nas.training.signals.level import Level
from nas.training.signals.reading import BlockReading, EpochReading, Observation

Verdict: TypeAlias = Literal["prune", "warn", "recover"]
"""`prune` ends a run that does not come back, `warn` only records, `recover` lowers the learning rate, once, and then
prunes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """A signal has passed its threshold."""

    value: float
    message: str
    """One line for people."""


class Signal:
    """Watches one symptom over one run."""

    name: ClassVar[str]
    default: ClassVar[float]
    """Threshold where a study file gives none."""
    minimum: ClassVar[float]
    """Smallest threshold that makes sense."""
    maximum: ClassVar[float] = math.inf
    verdict: ClassVar[Verdict] = "prune"
    """What follows where a study file says nothing else."""
    final: ClassVar[bool] = False
    """Whether `prune` ends the run at once; else it opens a probation."""
    can_recover: ClassVar[bool] = True
    """Whether a lower learning rate could still help once this was seen."""

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = self.default if threshold is None else threshold

    def observe(self, seen: Observation) -> Alarm | None:
        """Take in one step; say whether the run breaks here."""

    def inspect(self, seen: BlockReading) -> Alarm | None:
        """Take in one block at a sampled step; say whether it breaks here."""

    def judge(self, seen: EpochReading, level: Level) -> Alarm | None:
        """Take in one epoch, after `level` has; say whether the run is broken."""

    def state_dict(self) -> dict[str, Any]:
        """What is remembered between calls, as plain values, for a checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
