"""Small data sets of torchvision, whose images come decoded: in memory as bytes."""

from typing import Any

import numpy as np
import torch
from torchvision.datasets import EMNIST, STL10, SVHN

from nas.training.config import EMNIST_SPLITS, DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.official import open_official
from nas.training.data.splits import open_split, told

NUM_TEST = {
    "torch/cifar10": 10_000,
    "torch/cifar100": 10_000,
    "torch/mnist": 10_000,
    "torch/kmnist": 10_000,
    "torch/fashion_mnist": 10_000,
    "torch/qmnist": 60_000,
    "torch/svhn": 26_032,
    "torch/stl10": 8_000,
    **{f"torch/emnist/{split}": num_test for split, num_test in EMNIST_SPLITS.items()},
}
"""The data sets and the size of their official test part."""
BY_SPLIT = {"torch/svhn": SVHN, "torch/stl10": STL10}
"""Those that timm does not know and that are divided as `train` and `test`."""
NO_LETTER = "N/A"
"""torchvision's first class of EMNIST's letters, which count from 1: it has no images."""


def open_torch_arrays(config: DataConfig) -> ArrayData:
    """torchvision's test images are the test part; the validation part is cut from the others."""
    training = _opened(config, training=True)
    classes = getattr(training, "classes", range(int(training.labels.max()) + 1) if hasattr(training, "labels") else ())
    return open_official(
        config,
        _array_part(training),
        lambda: _array_part(_opened(config, training=False)),
        class_names=tuple(str(name) for name in classes if name != NO_LETTER),
        num_test=NUM_TEST[config.kind.lower()],
    )


def _opened(config: DataConfig, *, training: bool) -> Any:
    kind, root = config.kind.lower(), config.source.partition(":")[2]
    with told(config):
        if kind in BY_SPLIT:
            return BY_SPLIT[kind](root, split="train" if training else "test")
        if kind.startswith("torch/emnist/"):
            return EMNIST(root, split=kind.rpartition("/")[2], train=training)
    return open_split(config, config.kind, root, "train" if training else "validation")


def _array_part(dataset: Any) -> ArrayPart:
    """Images (N, C, H, W) of bytes; their first label, where QMNIST has several."""
    images = torch.as_tensor(dataset.data)
    if images.ndim == 3:  # noqa: PLR2004 - grey
        images = images[:, None]
    elif images.shape[1] != 3:  # noqa: PLR2004 - colours come last
        images = images.permute(0, 3, 1, 2)
    labels = np.asarray(dataset.labels if hasattr(dataset, "labels") else dataset.targets, np.int64)
    labels = labels.reshape(len(labels), -1)[:, 0]
    if NO_LETTER in getattr(dataset, "classes", ()):
        labels = labels - 1
    return ArrayPart(images.contiguous().numpy(), labels)
