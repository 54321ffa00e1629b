"""The look at the test part that a finished network gets once. Shape: n test images."""

import torch
from torch import nn

from nas.training.config import TrainingConfig
from nas.training.data.source import DataSource
from nas.training.device import resolve_device


@torch.inference_mode()
def correct_on_test(model: nn.Module, data: DataSource, config: TrainingConfig) -> tuple[bool, ...]:
    """Which test images (n,) a trained network classifies correctly, in float32 and on the device of its training."""
    device = resolve_device(config.device)
    model = model.to(device).eval()
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    batches = data.test_batches(batch_size=config.batch_size, on=device)
    return tuple(hit for images, labels in batches for hit in (model(images).argmax(1) == labels).tolist())
