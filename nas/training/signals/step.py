"""Signals that look at every optimiser step."""

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any, ClassVar

from nas.training.signals.level import Level
from nas.training.signals.reading import EpochReading, Observation
from nas.training.signals.signal import Alarm, Signal


class NonFinite(Signal):
    """The loss or the gradient is NaN or infinite in `threshold` steps in a row, or the validation loss is."""

    name = "non-finite"
    default = 1.0
    minimum = 1.0
    final = True
    can_recover = False

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__(threshold)
        self.in_a_row = 0

    def observe(self, seen: Observation) -> Alarm | None:
        """Count steps whose loss or gradient norm is not finite."""
        if math.isfinite(seen.loss) and math.isfinite(seen.grad_norm):
            self.in_a_row = 0
            return None
        self.in_a_row += 1
        if self.in_a_row < self.threshold:
            return None
        what, value = ("loss", seen.loss) if not math.isfinite(seen.loss) else ("gradient norm", seen.grad_norm)
        return Alarm(value=value, message=f"{what} is {value}")

    def judge(self, seen: EpochReading, level: Level) -> Alarm | None:
        """Look at the validation loss."""
        if math.isfinite(seen.val_loss):
            return None
        return Alarm(value=seen.val_loss, message=f"validation loss is {seen.val_loss}")

    def state_dict(self) -> dict[str, Any]:
        """The current run of non-finite steps."""
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.in_a_row = state["in_a_row"]


class BrokenStart(Signal):
    """The gradient norm of the very first step lies above `threshold` or below 1 / `threshold`.

    The first step is the probe of an architecture: its forward and backward pass run at the initial weights. Plain
    ResNets start between 2 and 30, with bottlenecks whose branches start open up to 3,000; resnet101 with textbook
    p2-cbam everywhere at 1e8.
    """

    name = "broken-start"
    default = 1e5
    minimum = 1.0
    final = True
    can_recover = False

    def observe(self, seen: Observation) -> Alarm | None:
        """Look at the first step."""
        if seen.step > 0 or 1 / self.threshold <= seen.grad_norm <= self.threshold or not math.isfinite(seen.grad_norm):
            return None
        return Alarm(value=seen.grad_norm, message=f"gradient norm {seen.grad_norm:.4g} before any training")


class LossSpike(Signal):
    """For `patience` steps the loss lies above `threshold` × its own exponential average, its start and its noise.

    The level at the start leaves alone what is normal once a network fits its data: a hard batch that costs 0.4
    where the average has fallen to 0.02. Noise and patience leave alone small batches: at a batch of 4, runs that
    ended at 0.83 to 0.88 on digits had single losses of 3 × their average, one of them beyond the noise. The noise is
    `deviations` standard deviations, from the differences of neighbouring losses, which a trend does not inflate
    (J. von Neumann 1941).
    """

    name = "loss-spike"
    default = 3.0
    minimum = 1.0
    memory: ClassVar[int] = 20
    """Steps over which the average forgets; also the steps before it is trusted."""
    deviations: ClassVar[float] = 6.0
    patience: ClassVar[int] = 3

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__(threshold)
        self.steps = 0
        self.start = 0.0
        self.average = 0.0
        self.variance = 0.0
        self.last: float | None = None
        self.in_a_row = 0

    def observe(self, seen: Observation) -> Alarm | None:
        """Compare the loss with the average of the steps before it."""
        if not math.isfinite(seen.loss):
            return None
        noise = self.deviations * math.sqrt(self.variance)
        limit = max(self.threshold * self.average, self.start, self.average + noise)
        self.in_a_row = self.in_a_row + 1 if self.steps >= self.memory and seen.loss > limit else 0
        if self.in_a_row > 0:  # what is suspect does not enter the average
            if self.in_a_row < self.patience:
                return None
            ratio = seen.loss / self.average if self.average > 0 else math.inf
            return Alarm(value=ratio, message=f"loss {seen.loss:.4g} is {ratio:.3g} × its average {self.average:.4g}")
        self.steps += 1
        weight = 1 / min(self.steps, self.memory)  # the plain mean at first, so that nothing is biased to zero
        self.average += weight * (seen.loss - self.average)
        if self.last is not None:
            self.variance += weight * ((seen.loss - self.last) ** 2 / 2 - self.variance)
        self.last = seen.loss
        if self.steps <= self.memory:
            self.start = max(self.start, self.average)
        return None

    def state_dict(self) -> dict[str, Any]:
        """Number of steps, start level, average, variance, last loss and suspect steps."""
        return {name: getattr(self, name) for name in ("steps", "start", "average", "variance", "last", "in_a_row")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on averaging."""
        self.steps, self.start, self.average = state["steps"], state["start"], state["average"]
        self.variance, self.last, self.in_a_row = state["variance"], state["last"], state["in_a_row"]


class GradientExplosion(Signal):
    """The gradient norm jumps above `threshold` × its median over the last steps, and above that of the first steps.

    Once a network fits its data the median is that of solved batches, and one hard image is many times as much: whole
    digits at 0.99, from 0.005 to 0.1. A norm below that of the first steps explodes nothing.

    Runs at 30 to 100 times the right learning rate reached 20 to 10,000 times their median.
    """

    name = "gradient-explosion"
    default = 20.0
    minimum = 1.0
    window: ClassVar[int] = 100
    """Steps of the median."""
    settle: ClassVar[int] = 20
    """Steps before the median is trusted; also the first steps."""

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__(threshold)
        self.norms: deque[float] = deque(maxlen=self.window)
        self.start = 0.0

    def observe(self, seen: Observation) -> Alarm | None:
        """Compare the norm with the median of the steps before it."""
        if not math.isfinite(seen.grad_norm):
            return None
        if len(self.norms) >= self.settle:
            middle = median(self.norms)
            if seen.grad_norm > max(self.threshold * middle, self.start) and middle > 0:
                ratio = seen.grad_norm / middle
                return Alarm(
                    value=ratio,
                    message=f"gradient norm {seen.grad_norm:.4g} is {ratio:.3g} × its median {middle:.4g}",
                )
        self.norms.append(seen.grad_norm)
        if len(self.norms) == self.settle:
            self.start = median(self.norms)
        return None

    def state_dict(self) -> dict[str, Any]:
        """The norms in the window, and the level at the start."""
        return {"norms": list(self.norms), "start": self.start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with this window."""
        self.norms = deque(state["norms"], maxlen=self.window)
        self.start = state.get("start", 0.0)  # older checkpoints have none
