"""The signal that looks at every epoch."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from nas.training.signals.reading import EpochReading
from nas.training.signals.signal import Alarm, Signal


class ChanceLevel(Signal):
    """Validation stays at chance: the run learns nothing, or learns its labels by heart.

    Validation is at chance where its accuracy is not above the share of the most frequent class by more than `errors`
    standard errors, or by `way`. The run learns nothing where at least `threshold` of its epochs, `patience` of them
    and `patience_steps` ended so in a row while the training loss was not below the entropy of the classes by more
    than `gain`. It learns by heart where no epoch ended otherwise, and the training loss is below that entropy by
    `heart`.

    A training loss that falls while validation does not is also what running statistics of batch norm look like that
    lag behind the weights, for 40 steps and more: a run on digits was at chance for six epochs of eight, at validation
    losses from 60,000 down, and ended at 0.64. Hence the second look with the statistics of each batch, where labels
    that mean nothing stay at chance and a network that lags does not.

    Patience is measured on cluttered digits, where micro networks that end well are at chance for 64 to 96 steps,
    whether an epoch has 16 of them or 64.
    """

    name = "chance-level"
    default = 0.35
    minimum = 0.0
    maximum = 1.0
    patience: ClassVar[int] = 3
    patience_steps: ClassVar[int] = 120
    errors: ClassVar[float] = 6.0
    """Standard errors of the accuracy that count as chance. A network that guesses some classes only varies more than
    coins: with shuffled labels, 0.19 of 360 digits were right."""
    way: ClassVar[float] = 0.15
    """Share of the way from chance to no error, beyond which accuracy is above chance with few images too. At the
    second look labels that meant nothing came up to 0.10 of it, networks that lagged and then learned from 0.24 on."""
    gain: ClassVar[float] = 0.03
    """Share of the entropy below which a training loss counts as chance."""
    heart: ClassVar[float] = 0.4
    """Share of the entropy by which a training loss is below it where labels are learned."""
    settle: ClassVar[int] = 20
    settle_per_block: ClassVar[int] = 5
    """Steps before an epoch is judged: deep networks begin to learn later. A resnet50 was at chance after 48 steps on
    digits and ended above it; a micro network of four blocks is at 0.8 after 24."""

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__(threshold)
        self.in_a_row = 0
        self.generalised = False
        """Whether any epoch ended above chance."""

    def in_doubt(self, seen: EpochReading) -> bool:
        """Whether labels may be learned by heart, which `batch_accuracy` would tell."""
        learned = seen.train_loss < (1 - self.heart) * seen.chance_loss
        return learned and self._open(seen) and not self.generalised and not self._above_chance(seen, seen.val_accuracy)

    def judge(self, seen: EpochReading) -> Alarm | None:
        """Count epochs at chance level."""
        chance, above = seen.chance_accuracy, self._above_chance(seen, seen.val_accuracy)
        self.generalised = self.generalised or above or self._above_chance(seen, seen.batch_accuracy)
        learns = seen.train_loss < (1 - self.gain) * seen.chance_loss
        self.in_a_row = 0 if above or learns else self.in_a_row + 1
        if not self._open(seen):
            return None
        long = self.in_a_row >= max(self.patience, self.threshold * seen.num_epochs)
        if long and self.in_a_row * (seen.step + 1) >= self.patience_steps * (seen.epoch + 1):
            what = f"{self.in_a_row} epochs at chance"
        elif seen.batch_accuracy is not None and not self.generalised:
            what = "labels are learned by heart"
        else:
            return None
        return Alarm(
            value=seen.val_accuracy,
            message=f"{what}: accuracy {seen.val_accuracy:.3g} where chance is {chance:.3g}, "
            f"training loss {seen.train_loss:.4g} where chance is {seen.chance_loss:.4g}",
        )

    def _open(self, seen: EpochReading) -> bool:
        """Whether the network had time to begin, and stopping would save something."""
        return seen.warm and not seen.last and seen.step >= max(self.settle, self.settle_per_block * seen.num_blocks)

    def _above_chance(self, seen: EpochReading, accuracy: float | None) -> bool:
        chance = seen.chance_accuracy
        error = math.sqrt(chance * (1 - chance) / seen.num_val)
        return accuracy is not None and accuracy > chance + min(self.errors * error, self.way * (1 - chance))

    def state_dict(self) -> dict[str, Any]:
        """The current run of epochs at chance, and whether there was any other."""
        return {"in_a_row": self.in_a_row, "generalised": self.generalised}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.in_a_row = state["in_a_row"]
        self.generalised = state.get("generalised", True)  # not noted by older checkpoints: give it the doubt
