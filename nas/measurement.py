"""What training an architecture once gives: frozen values, no torch."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nas.errors import NasError


class Outcome(StrEnum):
    """How a training run ended."""

    COMPLETE = "complete"
    """All epochs were run."""
    STOPPED = "stopped"
    """The caller stopped it (a pruner, say)."""
    UNSTABLE = "unstable"
    """The guard stopped it."""


class Interrupted(NasError):
    """The run was asked to stop: it has no result."""

    exit_code = 130


class OutOfMemory(NasError):
    """The memory of a device that several workers share ran out: nothing is wrong with the candidate."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch of one run."""

    epoch: int
    """Counts from 0."""
    train_loss: float
    val_loss: float
    val_accuracy: float
    """Fraction of the validation part, in [0, 1]."""
    learning_rate: float
    """At the end of the epoch."""
    grad_norm: float
    """Median over the epoch's steps of the global L2 norm of the gradients; infinite where fp16's loss scaler skipped
    every step."""
    train_s: float
    val_s: float
    val_top5: float | None = None
    """Fraction whose class is among the five highest logits; None, as below, where an older version wrote it."""
    val_macro_f1: float | None = None
    """Mean over classes of F1, of the classes that occur among labels or predictions."""
    val_balanced_accuracy: float | None = None
    """Mean over classes of their accuracy, of the classes that occur among the labels."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one network costs, as it is known before any training."""

    num_params: int
    macs: int
    """Multiply-accumulate operations of one forward pass of one image."""
    peak_memory_mb: float | None = None
    """Megabytes (10^6) of one training step, counted: weights, gradients, momentum and what the backward pass needs.

    Workspaces and the allocator's own needs are not in it. None where nobody asked."""
    latency_ms: float | None = None
    """Median time of a forward pass of one batch, in evaluation mode and warm; None where it was not timed."""
    latency_low_ms: float | None = None
    """Lower quartile."""
    latency_high_ms: float | None = None
    """Upper quartile."""


CAME_BACK = "came back in epoch"
"""What is said of an alarm that a run came back from, before the number of the epoch."""


@dataclass(frozen=True, kw_only=True)
class StabilityEvent:
    """Why the guard spoke: the signal, where it was seen, and the evidence."""

    signal: str
    """Name of the signal, for example `loss-spike`."""
    epoch: int
    step: int
    """Optimiser steps since the start of the run."""
    value: float | None
    """Last value of the signal; None where it was not finite."""
    threshold: float | None
    message: str
    """One line for people."""
    stage: int | None = None
    """From 1; None where the signal is about the whole run."""
    block: int | None = None
    """Within the stage, from 0: stage 3, block 1 is timm's ``layer3.1``."""
    trace: tuple[dict[str, Any], ...] = ()
    """The last steps before the event, oldest first; then, of a block or an epoch, what was read there."""

    @property
    def came_back(self) -> bool:
        """Whether it was an alarm that the run came back from."""
        return CAME_BACK in self.message


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The result of one training run."""

    outcome: Outcome
    score: float | None
    """Validation accuracy after the last epoch; None where no epoch was finished."""
    seed: int
    budget: int
    """Epochs that were asked for."""
    num_params: int
    macs: int
    """Multiply-accumulate operations of one forward pass of one image."""
    wall_s: float
    reason: str | None = None
    """Why the run did not end as COMPLETE."""
    epochs: tuple[EpochRecord, ...] = ()
    events: tuple[StabilityEvent, ...] = field(default=())
    """Warnings of the guard too; where it stopped the run, the last one says why."""
    test_correct: tuple[bool, ...] = ()
    """Which test images were classified correctly; only `nas confirm` looks at them."""
