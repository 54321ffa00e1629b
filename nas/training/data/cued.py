"""Two digits over each other, and a mark somewhere that tells which of them counts.

A positive control: what a small patch says decides how the rest of the picture is to be read, which is what a
mask computed from the whole picture is for.
"""

import numpy as np

from nas.errors import UserError
from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.canvas import ink_of, paste, under_noise
from nas.training.data.digits import CLASSES, digits_of
from nas.training.summary import Part

RECIPE = 1
"""Counts up when the pictures change."""
CANVAS = 10
DIGIT = 8
MARK = 2
"""Side of the mark in pixels."""
NOISE = 0.1
"""Standard deviation of the noise, where ink is 1."""
NUM_TRAIN = 4096
NUM_OTHER = 1024
"""Pictures to validate on, and as many to test on."""
RED, GREEN, BLUE = range(3)


def open_cued(config: DataConfig) -> ArrayData:
    """The pictures, drawn as they are asked for; each part from digits of its own part."""
    if config.in_chans == 1:
        raise UserError("data.in_chans: cued-digits need their colours; expected 3 or nothing, got 1")
    sizes: dict[Part, int] = {"train": config.num_train or NUM_TRAIN, "val": NUM_OTHER, "test": NUM_OTHER}
    numbers = {part: number for number, part in enumerate(sizes)}

    def read(part: Part) -> ArrayPart:
        return draw_pairs(digits_of(config)[part], sizes[part], [RECIPE, config.split_seed, numbers[part]])

    return ArrayData(config, read, class_names=CLASSES, num_test=NUM_OTHER)


def draw_pairs(digits: ArrayPart, count: int, seed: list[int]) -> ArrayPart:
    """``count`` pictures (count, 3, 10, 10) of bytes and their labels; a function of the arguments only.

    A red and a green digit, each at a place of its own. The red one counts where there is a blue mark.
    """
    random = np.random.default_rng(seed)
    ink, picture = ink_of(digits), np.zeros((count, 3, CANVAS, CANVAS), np.float32)
    chosen = random.integers(len(ink), size=(2, count))
    for colour in (RED, GREEN):
        paste(picture[:, colour], ink[chosen[colour]], random.integers(CANVAS - DIGIT + 1, size=(2, count)))
    marked = random.integers(2, size=count)
    mark = np.broadcast_to(marked[:, None, None].astype(np.float32), (count, MARK, MARK))
    paste(picture[:, BLUE], mark, random.integers(CANVAS - MARK + 1, size=(2, count)))
    labels = digits.labels[np.where(marked, chosen[RED], chosen[GREEN])]
    return ArrayPart(under_noise(picture, NOISE, random), labels)
