"""scikit-learn's digits under noise: small and quick to train on, and never easy."""

import numpy as np

from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.canvas import ink_of, under_noise
from nas.training.data.digits import digits_of, take_digits

RECIPE = 1
"""Counts up when the pictures change."""
NOISE = 0.5
"""Standard deviation of the noise, where ink is 1."""


def open_noisy(config: DataConfig) -> ArrayData:
    """The digits, each with noise of its own; the same pictures for every study of one division."""
    parts = {part: add_noise(digits, number, config) for number, (part, digits) in enumerate(digits_of(config).items())}
    return take_digits(parts, config)


def add_noise(digits: ArrayPart, number: int, config: DataConfig) -> ArrayPart:
    """Bytes (N, 1, 8, 8)."""
    random = np.random.default_rng([RECIPE, config.split_seed, number])
    return ArrayPart(under_noise(ink_of(digits)[:, None], NOISE, random), digits.labels)
