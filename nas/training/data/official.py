"""Data sets in memory that come in training and test images."""

from collections.abc import Callable

from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.summary import Part, stratified_split, take_training

BALANCED = ("torch/mnist", "torch/qmnist")
"""Sets with nearly equal classes, of whose subsets studies were begun when those of all sets were balanced."""


def open_official(
    config: DataConfig,
    training: ArrayPart,
    read_test: Callable[[], ArrayPart],
    *,
    class_names: tuple[str, ...],
    num_test: int,
) -> ArrayData:
    """The test images are the test part, read when asked for; the validation part is cut from the others."""
    cut = stratified_split(
        training.labels,
        val_fraction=config.val_fraction,
        test_fraction=0.0,
        seed=config.split_seed,
        balanced=config.balanced or config.num_train is None or config.kind.lower() in BALANCED,
    )
    cut["train"] = take_training(cut["train"], config)
    parts = {part: ArrayPart(training.images[index], training.labels[index]) for part, index in cut.items()}

    def read(part: Part) -> ArrayPart:
        return read_test() if part == "test" else parts[part]

    return ArrayData(config, read, class_names=class_names, num_test=num_test)
