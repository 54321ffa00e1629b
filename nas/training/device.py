"""The device that a configuration names."""

import torch

from nas.errors import UserError


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
