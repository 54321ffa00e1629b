"""Networks as a training might leave them: no weight, statistic, λ or γ at its start."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas.architecture import Architecture, Backbone
from nas.fusion.models import FusionResNet, build_model, open_branches
from nas.space.space import SearchSpace

PREPROCESSING: dict[str, Any] = {
    "input_size": [1, 8, 8],
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "crop_mode": "center",
    "mean": [0.02],
    "std": [0.03],
}
LABELS = tuple("0123456789")
PROVENANCE: dict[str, Any] = {
    "study": "s",
    "trial": 7,
    "state": "complete",
    "val_accuracy": 0.9123,
    "val_accuracy_interval": [0.88, 0.94],
    "val_accuracy_of_plain": 0.8765,
    "val_accuracy_interval_of_plain": [0.84, 0.91],
    "num_val": 359,
    "seed": 3,
    "split_seed": 0,
    "epochs": 5,
    "num_params": 310000,
    "macs": 1000000,
    "space": {"name": "full", "digest": "0123456789abcdef"},
    "data": "digits",
    "data_fingerprint": "f" * 64,
    "packages": {"timm": "1.0", "absent": None},
}
EXPORTED: dict[str, Any] = {"preprocessing": PREPROCESSING, "label_names": LABELS, "provenance": PROVENANCE}
"""What the writers take beside network and architecture."""


def trained_model(architecture: Architecture, seed: int = 0) -> FusionResNet:
    """A network whose parameters and statistics were all moved, with logits of about 3."""
    torch.manual_seed(seed)
    model = build_model(architecture)
    open_branches(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
        images = torch.randn(64, *PREPROCESSING["input_size"])
        for _ in range(3):
            model.train()(images)
        logits = model.eval()(images)
        model.fc.weight.mul_(3 / logits.std(0).mean())
        model.fc.bias.sub_(model(images).mean(0))
    return model


def random_networks(count: int) -> Iterator[tuple[Architecture, FusionResNet]]:
    """Architectures of the space `full` on resnet_micro, each with its network."""
    space = SearchSpace.load("full").on(
        backbone=Backbone(name="resnet_micro", stem="small"), num_classes=len(LABELS), in_chans=1
    )
    random = np.random.default_rng(0)
    for seed in range(count):
        architecture = space.sample(random)
        yield architecture, trained_model(architecture, seed)


def probes() -> torch.Tensor:
    """Five images (5, 1, 8, 8)."""
    return torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def files_in(folder: Path) -> list[str]:
    """Everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
