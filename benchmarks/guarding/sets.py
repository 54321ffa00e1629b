"""Data sets that are hard in one way: functions for `data.source: python:FILE.py:FUNCTION`, and a folder of JPEGs."""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

FASHION = Path("/usr/share/datasets/fashion-mnist")
Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def _digits() -> tuple[Part, Part, Part]:
    """Train, val and test: bytes (N, 8, 8) and labels (N,)."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = (digits.images * 15.9375).astype(np.uint8)[order], digits.target[order].astype(np.int64)
    return (images[:1000], labels[:1000]), (images[1000:1400], labels[1000:1400]), (images[1400:], labels[1400:])


def long_tailed() -> dict[str, Part]:
    """Ten digits in training, the rarest a twentieth as often as the most frequent; all alike in validation."""
    (images, labels), val, test = _digits()
    counts = np.round(100 * (1 / 20) ** (np.arange(10) / 9)).astype(int)
    kept = np.concatenate([np.flatnonzero(labels == c)[:n] for c, n in enumerate(counts)])
    return {"train": (images[kept], labels[kept]), "val": val, "test": test}


def unequal() -> dict[str, Part]:
    """Nineteen ones for each eight, in every part."""
    parts = {}
    for name, (images, labels) in zip(("train", "val", "test"), _digits(), strict=True):
        common, rare = np.flatnonzero(labels == 1), np.flatnonzero(labels == 8)
        kept = np.concatenate([np.tile(common, 4)[: 19 * (len(common) // 5)], rare[: len(common) // 5]])
        parts[name] = (images[kept], (labels[kept] == 8).astype(np.int64))
    return parts


def wrong_labels(share: float = 0.4) -> dict[str, Part]:
    """Digits of which a share has been given a class at random, in every part."""
    parts, random = {}, np.random.default_rng(1)
    for name, (images, labels) in zip(("train", "val", "test"), _digits(), strict=True):
        wrong = random.random(len(labels)) < share
        parts[name] = (images, np.where(wrong, random.integers(0, 10, len(labels)), labels))
    return parts


def jpegs(root: Path, count: int = 400, side: int = 64) -> Path:
    """A folder of Fashion-MNIST as JPEGs, ``count`` in ten classes; made once."""
    if root.exists():
        return root
    with gzip.open(FASHION / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(16 + 28 * 28 * count)[16:], np.uint8).reshape(-1, 28, 28)
    with gzip.open(FASHION / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + count)[8:], np.uint8)
    unfinished = root.with_name(root.name + ".part")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = unfinished / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert("RGB").resize((side, side)).save(folder / f"{number:05}.jpg", quality=92)
    return unfinished.rename(root)
