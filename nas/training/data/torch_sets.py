"""Small data sets of torchvision, whose images come decoded: in memory as bytes."""

from typing import Any

import numpy as np
import torch

from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.official import open_official
from nas.training.data.splits import open_split

NUM_TEST = {
    "torch/cifar10": 10_000,
    "torch/cifar100": 10_000,
    "torch/mnist": 10_000,
    "torch/kmnist": 10_000,
    "torch/fashion_mnist": 10_000,
    "torch/qmnist": 60_000,
}
"""The data sets and the size of their official test part."""


def open_torch_arrays(config: DataConfig) -> ArrayData:
    """torchvision's test images are the test part; the validation part is cut from the others."""
    root = config.source.partition(":")[2]
    training = open_split(config, config.kind, root, "train")
    return open_official(
        config,
        _array_part(training),
        lambda: _array_part(open_split(config, config.kind, root, "validation")),
        class_names=tuple(map(str, training.classes)),
        num_test=NUM_TEST[config.kind.lower()],
    )


def _array_part(dataset: Any) -> ArrayPart:
    """Images (N, C, H, W) of bytes; their first label, where QMNIST has several."""
    images = torch.as_tensor(dataset.data)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()  # noqa: PLR2004 - grey
    labels = np.asarray(dataset.targets, np.int64)
    return ArrayPart(images.numpy(), labels.reshape(len(labels), -1)[:, 0])
