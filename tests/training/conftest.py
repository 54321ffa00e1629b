"""Small networks and small data."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from nas.architecture import Architecture, Backbone
from nas.training.config import DataConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSION_NAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def digits() -> DataSource:
    return open_data(DataConfig(num_train=200))


@pytest.fixture(scope="session")
def micro() -> Architecture:
    return Architecture.plain(Backbone(name="resnet_micro", stem="small"), num_classes=10, in_chans=1)


@pytest.fixture(scope="session")
def brief() -> TrainingConfig:
    return TrainingConfig(epochs=2, device="cpu", threads=1)


@pytest.fixture
def image_folder(tmp_path):
    """Three classes of 20 digits each, as PNG and JPEG files of 16 × 16 pixels."""
    from PIL import Image

    from nas.training.data.digits import all_digits

    root = tmp_path / "images"
    digits = all_digits()
    for label, name in enumerate(("zero", "one", "two")):
        (root / name).mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(digits.labels == label)[:20]):
            image = Image.fromarray(digits.images[index, 0] * 15).resize((16, 16))
            image.save(root / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return root
