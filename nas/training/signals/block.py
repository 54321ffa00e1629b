"""Signals that look at every block, at sampled steps."""

from collections.abc import Mapping
from typing import Any, ClassVar

from nas.training.signals.reading import BlockReading
from nas.training.signals.signal import Alarm, Signal


class WeightGrowth(Signal):
    """The norm of a block's weights rises above `threshold` × what it was at the run's first inspection.

    Under batch norm the loss does not see the scale of a kernel, so that too high a learning rate need not show in
    the loss: each step adds to the norm, and the larger the norm the less the next steps turn the kernel (T. van
    Laarhoven 2017, arXiv:1706.05350), until the network no longer learns. Runs on digits that ended well at 10 times
    the right rate grew up to 7.3 ×; at 30 times it they grew by 6.4 × at least, most by 8 to 500 × within 20 steps.
    """

    name = "weight-growth"
    default = 8.0
    minimum = 1.0

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__(threshold)
        self.start: dict[str, float] = {}

    def inspect(self, seen: BlockReading) -> Alarm | None:
        """Compare the norm with the first."""
        start = self.start.setdefault(f"{seen.stage}.{seen.block}", seen.weight_norm)
        if not seen.weight_norm > self.threshold * start > 0:
            return None
        growth = seen.weight_norm / start
        return Alarm(value=growth, message=f"the weights have grown to {growth:.3g} × their norm at the start")

    def state_dict(self) -> dict[str, Any]:
        """The first norms, by block."""
        return {"start": dict(self.start)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with these norms."""
        self.start = dict(state["start"])


class BlockSignal(Signal):
    """A value of a block lies below `threshold` at `patience` inspections in a row."""

    minimum = 0.0
    maximum = 1.0
    patience: ClassVar[int] = 2

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__(threshold)
        self.in_a_row: dict[str, int] = {}

    def value(self, seen: BlockReading) -> float | None:
        """What is compared; None where the block has no such value, or not yet."""
        raise NotImplementedError

    def message(self, value: float, seen: BlockReading) -> str:
        """One line for people."""
        raise NotImplementedError

    def inspect(self, seen: BlockReading) -> Alarm | None:
        """Count inspections below the threshold, block by block."""
        value = self.value(seen)
        key = f"{seen.stage}.{seen.block}"
        if value is None or not value < self.threshold:
            self.in_a_row.pop(key, None)
            return None
        self.in_a_row[key] = self.in_a_row.get(key, 0) + 1
        return Alarm(value=value, message=self.message(value, seen)) if self.in_a_row[key] >= self.patience else None

    def state_dict(self) -> dict[str, Any]:
        """The current runs, by block."""
        return {"in_a_row": dict(self.in_a_row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.in_a_row = dict(state["in_a_row"])


class SkipClosed(BlockSignal):
    """The mean factor on a skip path (p2: 1 − λ + λ·m, p4: |1 + γ_s·m_s|) falls below `threshold`.

    A warning: a learned γ_s can pass through −1 / m_s and the network live on by its branches. A run on digits
    whose fourth stage was closed to 0.004 ended at 0.87. Textbook gates start at 0.5, those of CBAM at 0.25.
    """

    name = "skip-closed"
    default = 0.02
    verdict = "warn"

    def value(self, seen: BlockReading) -> float | None:
        """The factor on the skip path."""
        return seen.skip_factor

    def message(self, value: float, seen: BlockReading) -> str:
        """Name the factor."""
        return f"the skip path is multiplied by {value:.3g}"


class TrunkCollapse(BlockSignal):
    """The scale of the trunk falls below `threshold` × the largest scale before it.

    Below about 0.003 the variance of the trunk is less than the ε = 1e-5 of batch norm, which then no longer
    restores the scale. Looked at from the first step on, at the initial weights.
    """

    name = "trunk-collapse"
    default = 1e-3
    patience = 1

    def value(self, seen: BlockReading) -> float | None:
        """The trunk's scale relative to its largest."""
        return seen.trunk_ratio

    def message(self, value: float, seen: BlockReading) -> str:
        """Name both scales."""
        return f"the trunk has shrunk to {value:.3g} of its largest scale before, to {seen.output_scale:.3g}"


class SaturatedGates(BlockSignal):
    """A mask's gates are nearly all shut or nearly all open, where a sigmoid passes hardly any gradient.

    The mean of 4σ(1 − σ) falls below `threshold`; at 0.01 the mean gate is below 0.0025 or above 0.9975.
    """

    name = "saturated-gates"
    default = 0.01
    verdict = "warn"

    def value(self, seen: BlockReading) -> float | None:
        """The slope of the gates relative to that of a half-open one."""
        return seen.gate_slope

    def message(self, value: float, seen: BlockReading) -> str:
        """Name the slope."""
        return f"gates are saturated, {value:.3g} of their largest slope is left"


class DeadBranch(BlockSignal):
    """A residual branch adds less than `threshold` × the scale of its skip path, some time after the start."""

    name = "dead-branch"
    default = 0.01
    verdict = "warn"
    settle: ClassVar[int] = 50
    """Steps that a branch which starts at zero has to grow."""

    def value(self, seen: BlockReading) -> float | None:
        """The branch's scale relative to the skip path's."""
        if seen.step < self.settle or seen.shortcut_scale == 0:
            return None
        return seen.branch_scale / seen.shortcut_scale

    def message(self, value: float, seen: BlockReading) -> str:
        """Name the ratio."""
        return f"the residual branch has {value:.3g} of the scale of its skip path"
