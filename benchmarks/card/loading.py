"""How fast images come, from memory on the device and from files."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.card.setting import settings, wait
from nas.training.config import DataConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource

FILES = 320
DECODERS = (0, 8)


def loading(device: str) -> dict[str, float]:
    """Training images a second, augmented and standardised, of an epoch after one that warms up."""
    found = {}
    for setting in settings(device).values():
        found[f"in memory, {setting.side} px, batch {setting.batch_size}"] = _pace(
            setting.data(), setting.batch_size, device
        )
    with tempfile.TemporaryDirectory() as folder:
        files, decoders = (FILES, DECODERS) if device != "cpu" else (20, (0,))
        _write_images(Path(folder), files)
        for workers in decoders:
            data = open_data(DataConfig(source=f"folder:{folder}", image_size=224, workers=workers))
            found[f"JPEG files of 500×375, 224 px, {workers} decoders"] = _pace(data, 32, device)
    return found


def _pace(data: DataSource, batch_size: int, device: str) -> float:
    batches = data.train_batches(batch_size=batch_size, seed=0, on=torch.device(device))
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        started = time.perf_counter()
        count = sum(len(labels) for _, labels in batches)
        wait(device)
    return round(count / (time.perf_counter() - started), 1)


def _write_images(root: Path, count: int) -> None:
    """Pictures of two classes, smooth as photographs are."""
    random = np.random.default_rng(0)
    for number in range(count):
        file = root / "ab"[number % 2] / f"{number}.jpg"
        file.parent.mkdir(exist_ok=True)
        small = random.integers(256, size=(24, 32, 3), dtype=np.uint8)
        Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(file, quality=90)
