"""What tells that a training run is breaking: small values that look at one step after another.

A new signal is one class here and its entry in `SIGNALS`; study files then know its name.
Nothing here needs torch: losses and norms arrive as plain floats.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One optimiser step."""

    epoch: int
    step: int
    """Optimiser steps since the start of the run, from 0."""
    loss: float
    grad_norm: float
    """Global L2 norm of the gradients before clipping."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a trace; what is not finite becomes the string `nan`, `inf` or `-inf`."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "loss": _json_number(self.loss),
            "grad_norm": _json_number(self.grad_norm),
        }


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """A signal has passed its threshold."""

    value: float
    message: str
    """One line for people."""


class Signal(ABC):
    """Watches one symptom over the steps of one run."""

    name: ClassVar[str]
    default: ClassVar[float]
    """Threshold where a study file gives none."""
    minimum: ClassVar[float]
    """Smallest threshold that makes sense."""

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = self.default if threshold is None else threshold

    @abstractmethod
    def observe(self, seen: Observation) -> Alarm | None:
        """Take in one step; say whether the run breaks here."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What is remembered between steps, as plain values, for a checkpoint."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""


class NonFinite(Signal):
    """The loss or the gradient is NaN or infinite in `threshold` steps in a row."""

    name = "non-finite"
    default = 1.0
    minimum = 1.0

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

    def state_dict(self) -> dict[str, Any]:
        """The current run of non-finite steps."""
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.in_a_row = state["in_a_row"]


class LossSpike(Signal):
    """The loss jumps above `threshold` × its own exponential average, and above its level at the start.

    The second condition leaves alone what is normal once a network fits its data: a hard batch that
    costs 0.4 where the average has fallen to 0.02. Runs on digits that ended well never rose above their
    start again; runs that learned nothing spiked to 2.8 and more.
    """

    name = "loss-spike"
    default = 3.0
    minimum = 1.0
    memory: ClassVar[int] = 20
    """Steps over which the average forgets; also the steps before it is trusted."""

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__(threshold)
        self.steps = 0
        self.start = 0.0
        self.average = 0.0

    def observe(self, seen: Observation) -> Alarm | None:
        """Compare the loss with the average of the steps before it."""
        if not math.isfinite(seen.loss):
            return None
        limit = max(self.threshold * self.average, self.start)
        if self.steps >= self.memory and seen.loss > limit:
            ratio = seen.loss / self.average if self.average > 0 else math.inf
            return Alarm(value=ratio, message=f"loss {seen.loss:.4g} is {ratio:.3g} × its average {self.average:.4g}")
        self.steps += 1
        weight = 1 / min(self.steps, self.memory)  # the plain mean at first, so that nothing is biased to zero
        self.average += weight * (seen.loss - self.average)
        if self.steps <= self.memory:
            self.start = max(self.start, self.average)
        return None

    def state_dict(self) -> dict[str, Any]:
        """Average, start level and number of steps."""
        return {"steps": self.steps, "start": self.start, "average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on averaging."""
        self.steps, self.start, self.average = state["steps"], state["start"], state["average"]


class GradientExplosion(Signal):
    """The gradient norm jumps above `threshold` × its median over the last steps.

    Runs on digits that ended well stayed below 2.5 × their median; runs at 30 to 100 times the right
    learning rate reached 20 to 10,000.
    """

    name = "gradient-explosion"
    default = 20.0
    minimum = 1.0
    window: ClassVar[int] = 100
    """Steps of the median."""
    settle: ClassVar[int] = 20
    """Steps before the median is trusted."""

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__(threshold)
        self.norms: deque[float] = deque(maxlen=self.window)

    def observe(self, seen: Observation) -> Alarm | None:
        """Compare the norm with the median of the steps before it."""
        if not math.isfinite(seen.grad_norm):
            return None
        if len(self.norms) >= self.settle:
            middle = median(self.norms)
            if seen.grad_norm > self.threshold * middle > 0:
                ratio = seen.grad_norm / middle
                return Alarm(
                    value=ratio,
                    message=f"gradient norm {seen.grad_norm:.4g} is {ratio:.3g} × its median {middle:.4g}",
                )
        self.norms.append(seen.grad_norm)
        return None

    def state_dict(self) -> dict[str, Any]:
        """The norms in the window."""
        return {"norms": list(self.norms)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with this window."""
        self.norms = deque(state["norms"], maxlen=self.window)


SIGNALS: tuple[type[Signal], ...] = (NonFinite, LossSpike, GradientExplosion)
