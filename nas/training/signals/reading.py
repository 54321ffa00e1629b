"""What a signal looks at: steps, blocks and epochs as plain floats."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One optimiser step."""

    epoch: int
    step: int
    """Optimiser steps since the start of the run, from 0."""
    loss: float
    grad_norm: float
    """Global L2 norm of the gradients, after clipping where that is asked for."""

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
    accuracy: float
    """Of validation, balanced: the mean over the classes that it holds. A guess, however unequal the classes, has
    `chance_accuracy`."""
    chance_accuracy: float
    """One over the number of classes in validation."""
    chance_error: float
    """Standard error of the balanced accuracy of a guess."""
    num_blocks: int
    """Residual blocks of the network."""
    chance_loss: float
    """Training loss of knowing the class shares alone, in nats."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a trace."""
        return _plain(asdict(self))


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: str(v) if isinstance(v, float) and not math.isfinite(v) else v for key, v in fields.items()}
