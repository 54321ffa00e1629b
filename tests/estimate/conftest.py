"""A tiny task: 128 of the real digits, one epoch, one thread."""

import pytest
import torch

from nas.space.space import SearchSpace
from nas.training.config import DataConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource

DATA = DataConfig(source="digits", num_train=128)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data() -> DataSource:
    return open_data(DATA)


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace.load("patterns").on(in_chans=1)


@pytest.fixture
def training() -> TrainingConfig:
    return TrainingConfig(epochs=2, device="cpu", threads=1)
