"""What a run had reached, and whether it has lost it: the one consequence that a run is ended for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from nas.training.signals.reading import EpochReading


@dataclass
class Level:
    """The best of the epochs so far.

    A run has *lost* it where both measures say so: accuracy is not above the middle between chance and the best
    accuracy, and the training loss is above the middle between that of knowing nothing and the lowest. Before anything
    was reached the middle is chance itself, with room for luck. Either measure alone misleads: running statistics of
    batch norm lag behind the weights, so that validation is at chance while the training loss falls, and augmentation
    keeps the training loss high while validation rises.
    """

    errors: ClassVar[float] = 6.0
    """Standard errors of the accuracy that count as luck. A network that guesses some classes only varies more than
    coins: with shuffled labels, 0.19 of 360 digits were right."""
    way: ClassVar[float] = 0.15
    """Share of the way from chance to no error, beyond which accuracy is above chance with few images too."""
    gain: ClassVar[float] = 0.03
    """Share of the entropy below which a training loss still counts as knowing nothing."""

    way_had: float = 0.0
    """From chance, 0, to no error, 1: the best accuracy."""
    share_had: float = 1.0
    """The lowest training loss as a share of that of knowing nothing."""
    lost_in_a_row: int = 0
    """Epochs up to the last that ended with the level lost."""

    def see(self, seen: EpochReading) -> None:
        """Take in one epoch."""
        room = 1 - seen.chance_accuracy
        luck = min(self.errors * seen.chance_error / room, self.way)
        way = (seen.accuracy - seen.chance_accuracy) / room
        share = seen.train_loss / seen.chance_loss if seen.chance_loss else 0.0  # of one class nothing can be lost
        lost = way <= max(luck, self.way_had / 2) and not share < min(1 - self.gain, (1 + self.share_had) / 2)
        self.lost_in_a_row = self.lost_in_a_row + 1 if lost else 0
        self.way_had, self.share_had = max(self.way_had, way), min(self.share_had, share)

    def lost(self, seen: EpochReading) -> str:
        """One line for people: what is lost in this epoch."""
        had = seen.chance_accuracy + self.way_had * (1 - seen.chance_accuracy)
        return (
            f"at {seen.accuracy:.3g} of the validation images, by class, where the run had {had:.3g} and chance is "
            f"{seen.chance_accuracy:.3g}; the training loss is {seen.train_loss:.4g} where it had been "
            f"{self.share_had * seen.chance_loss:.4g} and chance is {seen.chance_loss:.4g}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Level":
        """Go on from `state_dict`."""
        return cls(**state)
