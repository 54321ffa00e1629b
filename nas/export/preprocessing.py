"""How the images of a study become a network's input, in the terms of timm's ``pretrained_cfg``."""

from typing import Any

import numpy as np
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from nas.training.data.arrays import ArrayData
from nas.training.data.batches import TensorBatches
from nas.training.data.decode import eval_crop
from nas.training.data.source import DataSource
from nas.training.data.torch_sets import NUM_TEST

WHOLE_IMAGE = ("digits", "noisy-digits", "cluttered-digits", "cued-digits", "fashion-mnist")
"""Sources whose images are resized, never cropped."""
BYTE = 255
"""timm's transforms divide pixels by it before they standardise."""


def preprocessing_of(data: DataSource) -> dict[str, Any]:
    """What timm's evaluation transform must do to give what the study validated on.

    ``mean`` and ``std`` are of pixels / 255, pixels as the source stores them: 0 to 16 in `digits`.
    """
    mean, std = _statistics(data)
    kind = data.summary.source.partition(":")[0]
    in_memory = kind.lower() in NUM_TEST and isinstance(data, ArrayData)
    whole = kind in WHOLE_IMAGE or in_memory
    return {
        "input_size": list(data.input_size),
        "interpolation": "bilinear",
        "crop_pct": 1.0 if whole else eval_crop(data.summary.image_size),
        "crop_mode": "center",
        "mean": mean,
        "std": std,
    }


def _statistics(data: DataSource) -> tuple[list[float], list[float]]:
    batches = data.val_batches(batch_size=1, on=torch.device("cpu"))
    if isinstance(batches, TensorBatches):
        mean, std = batches.mean / BYTE, 1 / batches.scale / BYTE
        return mean.flatten().double().tolist(), std.flatten().double().tolist()
    if data.in_chans == 1:  # image files read as grey
        return [float(np.mean(IMAGENET_DEFAULT_MEAN))], [float(np.mean(IMAGENET_DEFAULT_STD))]
    return list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD)
