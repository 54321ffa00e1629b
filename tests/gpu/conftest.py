"""Small networks on the real digits, on the card."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nas.architecture import Architecture, Backbone, StageFusion
from nas.training.config import DataConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_NAS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def digits() -> DataSource:
    return open_data(DataConfig())


@pytest.fixture(scope="session")
def fused() -> Architecture:
    """Every pattern and every attention once."""
    return Architecture(
        backbone=Backbone(name="resnet_micro", stem="small"),
        num_classes=10,
        in_chans=1,
        stages=(
            StageFusion(pattern="p1", attention="se", lambda_init=0.5, learnable=True),
            StageFusion(pattern="p2", attention="cbam", lambda_init=0.1, learnable=True, gate_init="open"),
            StageFusion(pattern="p3", attention="coord", lambda_init=0.5, learnable=True),
            StageFusion(pattern="p4", attention="eca", gamma_skip_init=0.05, learnable=True),
        ),
    )


@pytest.fixture(scope="session")
def brief() -> TrainingConfig:
    return TrainingConfig(epochs=3, device="cuda", threads=1)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Operations that add in a fixed order."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, by the first product of the process
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
