"""Digits on a cluttered canvas: one whole digit among pieces of others, and noise.

After the cluttered MNIST of V. Mnih et al., Recurrent Models of Visual Attention, 2014, made from
scikit-learn's digits: 24 × 24 pixels, where a small network has room to get better.
"""

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from nas.documents import write_atomically
from nas.errors import UserError
from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.cache import cache_dir
from nas.training.data.canvas import LEVELS, ink_of, paste, windows
from nas.training.data.digits import CLASSES, digits_of
from nas.training.summary import Part

RECIPE = 1
"""Counts up when the pictures change."""
CANVAS = 24
DIGIT = 8
NUM_PIECES = 6
"""Distractors on each canvas."""
PIECE = 4
"""Side of a distractor in pixels."""
NOISE = 0.1
"""Standard deviation of the noise, where ink is 1."""
NUM_TRAIN = 4096


def open_cluttered(config: DataConfig) -> ArrayData:
    """The canvases, made on first use and kept in the cache folder; each part from digits of its own part."""
    num_train = config.num_train or NUM_TRAIN
    sizes: dict[Part, int] = {
        "train": num_train,
        "val": max(1, num_train // 4),
        "test": max(1, num_train // 4),
    }

    def read(part: Part) -> ArrayPart:
        return _cached(config, part, sizes[part])

    return ArrayData(config, read, class_names=CLASSES, num_test=sizes["test"])


def draw_canvases(digits: ArrayPart, count: int, seed: list[int]) -> ArrayPart:
    """``count`` canvases (count, 1, 24, 24) of bytes and their labels; a function of the arguments only."""
    random = np.random.default_rng(seed)
    ink = ink_of(digits)
    chosen = random.integers(len(ink), size=count)
    canvas = np.zeros((count, CANVAS, CANVAS), np.float32)
    for _ in range(NUM_PIECES):
        source = ink[random.integers(len(ink), size=count)]
        piece = windows(source, random.integers(DIGIT - PIECE + 1, size=(2, count)), PIECE)
        paste(canvas, piece, random.integers(CANVAS - PIECE + 1, size=(2, count)))
    paste(canvas, ink[chosen], random.integers(CANVAS - DIGIT + 1, size=(2, count)))
    canvas += NOISE * random.standard_normal(canvas.shape, np.float32)
    images = np.rint(canvas.clip(0, 1) * LEVELS).astype(np.uint8)
    return ArrayPart(images[:, None], digits.labels[chosen])


def _cached(config: DataConfig, part: Part, count: int) -> ArrayPart:
    key = f"{RECIPE}-{config.val_fraction}-{config.test_fraction}-{config.split_seed}-{count}"
    name = f"cluttered-digits-{part}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    path = cache_dir() / name
    if (kept := _load(path)) is not None:
        return kept
    part_number = ("train", "val", "test").index(part)
    drawn = draw_canvases(digits_of(config)[part], count, [RECIPE, config.split_seed, part_number])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=drawn.images, labels=drawn.labels, checksum=np.array(_checksum(drawn)))
    try:
        write_atomically(path, buffer.getvalue())
    except UserError:
        return drawn  # a cache folder that cannot be written costs time, not the result
    return drawn


def _load(path: Path) -> ArrayPart | None:
    """A part from the cache; None where there is none or it is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            part, checksum = ArrayPart(file["images"], file["labels"]), str(file["checksum"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    return part if checksum == _checksum(part) else None


def _checksum(part: ArrayPart) -> str:
    return hashlib.sha256(part.images.tobytes() + part.labels.tobytes()).hexdigest()
