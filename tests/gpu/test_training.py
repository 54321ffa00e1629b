"""One candidate is trained on a GPU: in each precision, interrupted, out of memory, without waiting at every step."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.architecture import Architecture, Backbone
from nas.measurement import EpochRecord, Measurement, Outcome
from nas.training.checkpoint import Checkpoint
from nas.training.config import DataConfig, Precision, TrainingConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource
from nas.training.fit import GPU_LAG
from nas.training.run import train

from . import on_gpu

pytestmark = on_gpu

PRECISIONS = ["32-true", "bf16-mixed", "16-mixed"]


def scores(measurement: Measurement) -> list[EpochRecord]:
    """Everything but the times."""
    return [replace(epoch, train_s=0, val_s=0) for epoch in measurement.epochs]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_learns_in_each_precision(
    fused: Architecture, digits: DataSource, brief: TrainingConfig, precision: Precision
) -> None:
    measurement = train(fused, digits, brief.model_copy(update={"precision": precision}), seed=0)
    assert measurement.outcome is Outcome.COMPLETE
    assert measurement.score is not None
    assert measurement.score > 0.8


def test_it_trains_as_the_cpu_does(fused: Architecture, digits: DataSource, brief: TrainingConfig) -> None:
    config = brief.model_copy(update={"epochs": 1, "learning_rate": 0.01})
    on_cpu = train(fused, digits, config.model_copy(update={"device": "cpu"}), seed=0)
    on_card = train(fused, digits, config, seed=0)
    assert on_card.epochs[0].train_loss == pytest.approx(on_cpu.epochs[0].train_loss, rel=0.02)
    assert (on_card.num_params, on_card.macs) == (on_cpu.num_params, on_cpu.macs)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(
    fused: Architecture,
    digits: DataSource,
    brief: TrainingConfig,
    precision: Precision,
    tmp_path: Path,
) -> None:
    config, path = brief.model_copy(update={"epochs": 4, "precision": precision}), tmp_path / "run.ckpt"
    whole = train(fused, digits, config, seed=0)
    assert scores(train(fused, digits, config, seed=0)) == scores(whole)
    first = train(fused, digits, config, seed=0, checkpoint=path, on_epoch=lambda e: "pause" if e.epoch == 1 else None)
    assert len(first.epochs) == 2
    assert bool(Checkpoint.load(path).scaler) == (precision == "16-mixed")
    resumed = train(fused, digits, config, seed=0, checkpoint=path)
    assert resumed.outcome is Outcome.COMPLETE
    assert resumed.epochs[:2] == first.epochs
    assert scores(resumed) == scores(whole)


def test_without_deterministic_operations_runs_of_one_seed_are_alike(
    fused: Architecture, digits: DataSource, brief: TrainingConfig
) -> None:
    one, other = (train(fused, digits, brief, seed=0) for _ in range(2))
    assert one.epochs[0].train_loss == pytest.approx(other.epochs[0].train_loss, rel=0.1)


def test_a_checkpoint_moves_between_devices(
    fused: Architecture, digits: DataSource, brief: TrainingConfig, tmp_path: Path
) -> None:
    path = tmp_path / "run.ckpt"
    train(fused, digits, brief, seed=0, checkpoint=path, on_epoch=lambda e: "pause" if e.epoch == 0 else None)
    on_cpu = brief.model_copy(update={"device": "cpu"})
    train(fused, digits, on_cpu, seed=0, checkpoint=path, on_epoch=lambda e: "pause" if e.epoch == 1 else None)
    last = train(fused, digits, brief, seed=0, checkpoint=path)
    assert (last.outcome, len(last.epochs)) == (Outcome.COMPLETE, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_image_files_train(tmp_path: Path, brief: TrainingConfig, workers: int) -> None:
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for name in ("bright", "dark"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(128, size=(16, 16, 3)) + 127 * (name == "bright")
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / name / f"{number}.png")
    data = open_data(DataConfig(source=f"folder:{tmp_path / 'images'}", image_size=32, workers=workers))
    plain = Architecture.plain(Backbone(name="resnet_micro", stem="small"), num_classes=2)
    measurement = train(plain, data, brief.model_copy(update={"batch_size": 8, "epochs": 2}), seed=0)
    assert measurement.outcome is Outcome.COMPLETE


# ── waiting for the device ──


def count_waits(architecture: Architecture, config: TrainingConfig, num_train: int) -> list[str]:
    """Where the host waited for the device during a run."""
    data = open_data(DataConfig(num_train=num_train))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train(architecture, data, config, seed=0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{w.filename}:{w.lineno}" for w in caught if "synchronizing CUDA operation" in str(w.message)]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_steps_do_not_wait_for_the_device(fused: Architecture, brief: TrainingConfig, precision: Precision) -> None:
    config = brief.model_copy(update={"epochs": 2, "batch_size": 8, "precision": precision})
    few, many = (count_waits(fused, config, num_train) for num_train in (256, 1024))
    more_steps = 2 * (1024 - 256) // 8
    extra = [place for place in set(many) for _ in range(many.count(place) - few.count(place))]
    assert len(extra) <= 2 * more_steps // GPU_LAG, sorted(extra)  # steps and what the inspector saw of them


# ── memory ──


@pytest.fixture
def little_memory() -> Iterator[None]:
    """As if others had taken nearly all of the card's memory."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(200 * 2**20 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def large(config: TrainingConfig) -> tuple[Architecture, DataSource, TrainingConfig]:
    plain = Architecture.plain(Backbone(name="resnet18", stem="small"), num_classes=10, in_chans=1)
    data = open_data(DataConfig(image_size=64, num_train=300))
    return plain, data, config.model_copy(update={"batch_size": 300})


def test_a_candidate_without_room_says_so_and_the_next_one_trains(
    little_memory: None, fused: Architecture, digits: DataSource, brief: TrainingConfig
) -> None:
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            train(*large(brief), seed=0)
    measurement: Measurement = train(fused, digits, brief, seed=0)
    assert measurement.outcome is Outcome.COMPLETE


def test_nothing_of_a_run_stays_on_the_card(fused: Architecture, digits: DataSource, brief: TrainingConfig) -> None:
    train(fused, digits, brief, seed=0)  # the data stays
    before = torch.cuda.memory_allocated()
    for seed in (1, 2, 3):
        train(fused, digits, brief, seed=seed)
    assert torch.cuda.memory_allocated() <= before + 2**20
