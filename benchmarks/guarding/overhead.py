"""What the guard costs: CPU time of ten steps with it over as many without it, neighbours in one training run."""

import time
from contextlib import suppress
from itertools import pairwise
from statistics import median
from unittest.mock import patch

import numpy as np

from benchmarks.guarding.tasks import MICRO
from nas.architecture import Architecture, Backbone, StageFusion
from nas.measurement import Interrupted, StabilityEvent
from nas.training import fit as training_fit
from nas.training import run as training_run
from nas.training.config import DataConfig, GuardConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource
from nas.training.guard import Guard
from nas.training.inspection import Inspector
from nas.training.run import train
from nas.training.signals import SIGNALS
from nas.training.signals.reading import Observation

RECORDING = GuardConfig(verdicts={signal.name: "warn" for signal in SIGNALS})
OVERHEAD = {
    "micro, 8 px, batch of 64": (MICRO, 8, 64, 2000),
    "resnet18, 64 px, batch of 16": (Backbone(name="resnet18", stem="imagenet"), 64, 16, 320),
}
"""Backbone, side of the images, batch size, steps."""
BLOCK = 10
"""Steps that are timed together: one of them is watched, two of the first fifty."""


class _Sleepy(Guard):
    """Answers only while it is awake."""

    awake = True

    def observe(self, seen: Observation) -> StabilityEvent | None:
        return super().observe(seen) if self.awake else None


class _SleepyInspector(Inspector):
    """Watches only while the guard is awake."""

    def watch(self) -> None:
        if _Sleepy.awake:
            super().watch()


def overhead() -> dict[str, list[float]]:
    """CPU time of ten steps with the guard over as many without it, neighbours in one training run."""
    ratios = {}
    dual = StageFusion(pattern="p4", attention="cbam", gamma_skip_init=0.05, learnable=True)
    for name, (backbone, image_size, batch_size, steps) in OVERHEAD.items():
        data = open_data(
            DataConfig(source="cluttered-digits", image_size=image_size, num_train=steps * batch_size, augment=False)
        )
        recipe = TrainingConfig(epochs=1, batch_size=batch_size, device="cpu", threads=1)
        for fusion, stage in (("plain", StageFusion()), ("p4-cbam everywhere", dual)):
            arch = Architecture(backbone=backbone, num_classes=10, in_chans=1, stages=(stage,) * 4)
            ratios[f"{name}, {fusion}"] = _ratios(arch, data, recipe, steps)
            print(name, fusion, f"{median(ratios[f'{name}, {fusion}']) - 1:+.2%}", flush=True)
    return ratios


def _ratios(arch: Architecture, data: DataSource, recipe: TrainingConfig, steps: int) -> list[float]:
    """The guard sleeps in every other block of steps; which of two neighbours comes first alternates."""
    stamps: list[float] = []

    def before_step() -> bool:
        step = len(stamps)
        stamps.append(time.process_time())
        block = step // BLOCK
        _Sleepy.awake = block % 4 in (0, 3)
        return step == steps - 1  # no validation

    with (
        patch.object(training_run, "Guard", _Sleepy),
        patch.object(training_fit, "Inspector", _SleepyInspector),
        suppress(Interrupted),
    ):
        train(arch, data, recipe, seed=0, guard=RECORDING, should_stop=before_step)
    blocks = [b - a for a, b in pairwise(stamps[::BLOCK])]
    pairs = list(zip(blocks[::2], blocks[1::2], strict=False))[1:]  # the first warms up
    return [a / b if pair % 2 else b / a for pair, (a, b) in enumerate(pairs)]


def table(ratios: dict[str, list[float]]) -> list[str]:
    """Markdown, with 95 % intervals of the medians."""
    lines = ["| overhead of the guard | pairs | median | 95 % interval |", "|---|---:|---:|---:|"]
    for name, values in ratios.items():
        low, high = _bootstrap(values)
        lines.append(f"| {name} | {len(values)} | {median(values) - 1:+.2%} | {low - 1:+.2%} to {high - 1:+.2%} |")
    return lines


def _bootstrap(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(low), float(high)
