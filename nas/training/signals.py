"""What tells that a training run is breaking: small values that look at steps, at blocks and at epochs.

A new signal is one class here and its entry in `SIGNALS`; study files then know its name. It overrides
`observe` (every optimiser step), `inspect` (every block, at sampled steps) or `judge` (every epoch).
Nothing here needs torch: losses, norms and scales arrive as plain floats.

Defaults that "ended well" refers to are measured by ``benchmarks/guard.py``; `docs/guard.md` has the figures.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, ClassVar, Literal, TypeAlias

Verdict: TypeAlias = Literal["prune", "warn", "recover"]
"""`prune` ends the run, `warn` only records, `recover` lowers the learning rate once and prunes the next time."""


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
        return _plain(asdict(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockReading:
    """One residual block at one sampled step. A scale is the root mean square of a tensor."""

    epoch: int
    step: int
    stage: int
    """From 1, as timm counts: stage 1 is ``layer1``."""
    block: int
    """Within the stage, from 0, as timm counts."""
    shortcut_scale: float
    """Of the skip path s after the projection."""
    branch_scale: float
    """Of the residual branch f, times the mean factor of a mask on it."""
    output_scale: float
    """Of the block's output, after the final activation."""
    trunk_ratio: float
    """Output scale over the largest scale of the trunk before it."""
    weight_norm: float
    """Global L2 norm of the block's weight matrices and kernels, before the step."""
    skip_factor: float | None = None
    """Mean factor on the skip path: p2: 1 − λ + λ·m, p4: |1 + γ_s·m_s|; None where nothing touches it."""
    gate_slope: float | None = None
    """Mean of 4σ(1 − σ) over the gates of the mask that is most saturated: 1 half open, 0 stuck."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a trace."""
        return _plain(asdict(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReading:
    """One epoch beside what knowing nothing would give."""

    epoch: int
    num_epochs: int
    """Of the whole run."""
    step: int
    """The last step of the epoch."""
    warm: bool
    """Whether the whole epoch lay behind the warm-up."""
    last: bool
    """Whether nothing is left that stopping could save."""
    train_loss: float
    val_loss: float
    val_accuracy: float
    batch_accuracy: float | None = None
    """Validation accuracy with the statistics of each batch in batch norm; None where no signal was in doubt."""
    num_val: int
    num_blocks: int
    """Residual blocks of the network."""
    chance_accuracy: float
    """Share of the most frequent class."""
    chance_loss: float
    """Entropy of the class shares in nats."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a trace."""
        return _plain(asdict(self))


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: str(v) if isinstance(v, float) and not math.isfinite(v) else v for key, v in fields.items()}


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
    can_recover: ClassVar[bool] = True
    """Whether a lower learning rate could still help once this was seen."""

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = self.default if threshold is None else threshold

    def observe(self, seen: Observation) -> Alarm | None:
        """Take in one step; say whether the run breaks here."""

    def inspect(self, seen: BlockReading) -> Alarm | None:
        """Take in one block at a sampled step; say whether it breaks here."""

    def in_doubt(self, seen: EpochReading) -> bool:
        """Whether `judge` needs the second look at validation, `EpochReading.batch_accuracy`."""
        return False

    def judge(self, seen: EpochReading) -> Alarm | None:
        """Take in one epoch; say whether the run is broken."""

    def state_dict(self) -> dict[str, Any]:
        """What is remembered between calls, as plain values, for a checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""


class NonFinite(Signal):
    """The loss or the gradient is NaN or infinite in `threshold` steps in a row, or the validation loss is."""

    name = "non-finite"
    default = 1.0
    minimum = 1.0
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

    def judge(self, seen: EpochReading) -> Alarm | None:
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


SIGNALS: tuple[type[Signal], ...] = (
    NonFinite,
    BrokenStart,
    LossSpike,
    GradientExplosion,
    WeightGrowth,
    SkipClosed,
    TrunkCollapse,
    SaturatedGates,
    DeadBranch,
    ChanceLevel,
)
