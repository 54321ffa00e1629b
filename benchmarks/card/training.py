"""A worker's epochs beside those of a bare loop, and how far two runs of one seed lie apart."""

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.card.setting import settings
from benchmarks.epochs import bare_loop, worker_loop
from benchmarks.paired import in_turns, ratio
from nas.architecture import Architecture, StageFusion
from nas.measurement import EpochRecord
from nas.training.config import Precision, TrainingConfig
from nas.training.data.source import DataSource
from nas.training.run import train

FORMATS: tuple[tuple[Precision, bool], ...] = (("32-true", True), ("bf16-mixed", True), ("bf16-mixed", False))
"""Precision, and whether images lie channels last. A CPU shows the first only: bfloat16 takes it ten times as long."""
ROUNDS = 2
EPOCHS = 3


def throughput(device: str, name: str) -> dict[str, Any]:
    """Images a second of a worker and of a bare loop, validation included; the first epoch of each warms up."""
    setting, found = settings(device)[name], {}
    data = setting.data()
    for precision, channels_last in FORMATS if device != "cpu" else FORMATS[:1]:
        config = setting.training(device, epochs=EPOCHS, precision=precision, channels_last=channels_last)
        values = _in_turns(setting.architecture, data, config)
        layout = "channels last" if channels_last else "channels first"
        found[f"{name}, {precision.removesuffix('-mixed').removesuffix('-true')}, {layout}"] = {
            **ratio(values, "worker", "bare"),
            "images_per_s": round(median(values["worker"])),
        }
    return found


def _in_turns(architecture: Architecture, data: DataSource, config: TrainingConfig) -> dict[str, list[float]]:
    """Images a second of each loop, round by round."""
    images, clock = data.summary.num_train + data.summary.num_val, time.perf_counter
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return in_turns(
            {
                "bare": lambda: images / median(bare_loop(architecture, data, config, clock)[1:]),
                "worker": lambda: images / median(worker_loop(architecture, data, config, folder, clock)),
            },
            ROUNDS if config.device != "cpu" else 1,
        )


def exactness(device: str) -> dict[str, Any]:
    """Two runs of one seed, and one that was interrupted, with torch's usual and its deterministic operations."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    found: dict[str, Any] = {}
    for mode in ("usual", "deterministic"):
        torch.use_deterministic_algorithms(mode == "deterministic")
        try:
            found[mode] = _repeated(device)
        except RuntimeError as error:  # an operation that has no deterministic form
            found[mode] = {"refused": str(error).splitlines()[0]}
        finally:
            torch.use_deterministic_algorithms(False)
    return found


def _repeated(device: str) -> dict[str, Any]:
    setting = settings(device)["resnet_micro 24 px"]
    data, config = setting.data(), setting.training(device, epochs=4, precision="32-true")
    stages = [StageFusion(pattern=pattern, attention="cbam", learnable=True) for pattern in ("p1", "p2", "p3", "p4")]
    plain = setting.architecture
    fused = Architecture(**{**dict(plain), "stages": tuple(stages)})
    run = partial(train, fused, data, config, seed=0)
    whole, again = run(), run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.ckpt"
        run(checkpoint=path, on_epoch=lambda epoch: "pause" if epoch.epoch == 1 else None)
        resumed = run(checkpoint=path)
    return {
        "epoch_s": round(median(epoch.train_s for epoch in whole.epochs[1:]), 3),
        "again": _apart(whole.epochs, again.epochs),
        "resumed": _apart(whole.epochs, resumed.epochs),
    }


def _apart(some: tuple[EpochRecord, ...], others: tuple[EpochRecord, ...]) -> dict[str, float]:
    """Largest differences of training loss, relative, and of accuracy."""
    pairs = list(zip(some, others, strict=True))
    return {
        "train_loss": max(abs(a.train_loss / b.train_loss - 1) for a, b in pairs),
        "val_accuracy": max(abs(a.val_accuracy - b.val_accuracy) for a, b in pairs),
    }
