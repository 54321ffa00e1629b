"""scikit-learn's real handwritten digits: 1,797 grey images of 8 × 8 pixels in 16 levels.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.summary import Part, stratified_split, take_training

CLASSES = tuple("0123456789")


@cache
def all_digits() -> ArrayPart:
    """Images (1797, 1, 8, 8) of bytes from 0 to 16, and labels (1797,)."""
    digits = load_digits()
    return ArrayPart(digits.images[:, None].astype(np.uint8), digits.target.astype(np.int64))


def digits_of(config: DataConfig) -> dict[Part, ArrayPart]:
    """The digits in their fixed parts."""
    digits = all_digits()
    split = stratified_split(
        digits.labels,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
    )
    return {part: ArrayPart(digits.images[index], digits.labels[index]) for part, index in split.items()}


def open_digits(config: DataConfig) -> ArrayData:
    """The digits as they are."""
    return take_digits(digits_of(config), config)


def take_digits(parts: dict[Part, ArrayPart], config: DataConfig) -> ArrayData:
    """A data set of these parts, with as many training images as the study asks for."""
    chosen = take_training(np.arange(len(parts["train"].labels)), config)
    parts["train"] = ArrayPart(parts["train"].images[chosen], parts["train"].labels[chosen])
    return ArrayData(config, parts.__getitem__, class_names=CLASSES, num_test=len(parts["test"].labels))
