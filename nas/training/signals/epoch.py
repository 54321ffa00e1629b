"""The signal that looks at every epoch."""

from typing import ClassVar

from nas.training.signals.level import Level
from nas.training.signals.reading import EpochReading
from nas.training.signals.signal import Alarm, Signal


class ChanceLevel(Signal):
    """A run stays at chance, or below half of what it had: `threshold` of its epochs ended so in a row.

    No other symptom is needed, so that patience is long: also `patience` epochs and `patience_steps`. It is measured
    on cluttered digits, where micro networks that end well are at chance for 64 to 96 steps, whether an epoch has 16
    of them or 64.
    """

    name = "chance-level"
    final = True
    default = 0.35
    minimum = 0.0
    maximum = 1.0
    patience: ClassVar[int] = 3
    patience_steps: ClassVar[int] = 120
    settle: ClassVar[int] = 20
    settle_per_block: ClassVar[int] = 5
    """Steps before an epoch is judged: deep networks begin to learn later. A resnet50 was at chance after 48 steps on
    digits and ended above it; a micro network of four blocks is at 0.8 after 24."""

    def judge(self, seen: EpochReading, level: Level) -> Alarm | None:
        """Hold the epochs that were lost in a row against the patience."""
        if seen.last or not seen.warm or seen.step < max(self.settle, self.settle_per_block * seen.num_blocks):
            return None
        count = level.lost_in_a_row
        if count < max(self.patience, self.threshold * seen.num_epochs):
            return None
        if count * (seen.step + 1) < self.patience_steps * (seen.epoch + 1):
            return None
        return Alarm(value=seen.accuracy, message=f"{count} epochs {level.lost(seen)}")
