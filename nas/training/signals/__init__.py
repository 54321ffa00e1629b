"""What tells that a training run is breaking: small values that look at steps, at blocks and at epochs.

A new signal is one class in `step`, `block` or `epoch` and its entry in `SIGNALS`; study files then know its name. It
overrides `observe` (every optimiser step), `inspect` (every block, at sampled steps) or `judge` (every epoch).
Nothing here needs torch: losses, norms and scales arrive as plain floats.

Defaults that "ended well" refers to are measured by ``benchmarks/guard.py``; `docs/guard.md` has the figures.
"""

from nas.training.signals.block import DeadBranch, SaturatedGates, SkipClosed, TrunkCollapse, WeightGrowth
from nas.training.signals.epoch import ChanceLevel
from nas.training.signals.signal import Signal
from nas.training.signals.step import BrokenStart, GradientExplosion, LossSpike, NonFinite

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
