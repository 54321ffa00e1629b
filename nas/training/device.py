"""The device that a configuration names."""

import torch

from nas.errors import UserError
from nas.training.config import TrainingConfig


def resolve_device(name: str) -> torch.device:
    """The device that a configuration names; raise a `UserError` where this machine has none such."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= available[device.type]:
        raise UserError(
            f"device: {name!r} asked for, but this machine has {available[device.type] or 'none'} of that kind"
        )
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def on_device(config: TrainingConfig, device: torch.device) -> TrainingConfig:
    """The configuration as it is carried out on a device: lightning has no float16 on a CPU, and takes bfloat16."""
    if config.precision == "16-mixed" and device.type == "cpu":
        return config.model_copy(update={"precision": "bf16-mixed"})
    return config


def half_of(config: TrainingConfig) -> torch.dtype | None:
    """The type that forward passes compute in beside float32; None: they do not."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(config.precision)
