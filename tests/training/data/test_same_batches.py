"""Studies that have begun go on: fingerprints and batches of the made sources as version 0.1 gave them."""

import hashlib

import numpy as np
import pytest
import torch

from nas.training.config import DataConfig
from nas.training.data import open_data
from nas.training.data.arrays import ArrayData, ArrayPart

CPU = torch.device("cpu")


def hash_of(batches, epoch):
    batches.set_epoch(epoch)
    state = hashlib.sha256()
    for images, labels in batches:
        state.update(images.contiguous().numpy().tobytes())
        state.update(labels.numpy().tobytes())
    return state.hexdigest()[:16]


@pytest.mark.parametrize(
    ("config", "fingerprint", "train", "val", "test"),
    [
        (
            {"source": "digits"},
            "d05af5e703b0a335",
            ["bfaa2c834a48893c", "dfc8f720c3edfd22"],
            "a51d14507d63d6d3",
            "f2e9edaab32b028b",
        ),
        (
            {"source": "noisy-digits", "num_train": 300},
            "5761615c2fd4488c",
            ["5e85eec28944b030", "4856beaf121780b6"],
            "5b2b3095e9b48bcb",
            "19ee0a6febcc812b",
        ),
        (
            {"source": "cluttered-digits", "num_train": 300},
            "b7427d07d92d7ef9",
            ["b4edf6a45f62374e", "63af7c39ddc33ef0"],
            "7eea35b9a291f891",
            "b61d9d1537763402",
        ),
        (
            {"source": "cued-digits", "num_train": 300},
            "6ca682698c6e84e6",
            ["46a62db27e148bff", "2ea043611011f421"],
            "4f4336c5e276ff30",
            "27f87d3319ab23d9",
        ),
        (
            {"source": "digits", "image_size": 32, "num_train": 192},
            "ef0b4be926ee3bee",
            ["e9d376d89c4b57e0", "570a7862c4564d79"],
            "de7157dd9878e386",
            "805c50bf3237cd92",
        ),
        (
            {"source": "digits", "image_size": 24, "in_chans": 3, "num_train": 192, "flip": 0.5},
            "160b80237e932a7c",
            ["4a775b03205b8302", "048bf21e729d9d97"],
            "ab5476d5b164770c",
            "b8be83db7d3ea3a2",
        ),
        (
            {"source": "cluttered-digits", "num_train": 300, "augment": False},
            "b7427d07d92d7ef9",
            ["491e94b257d85033", "5e2846e094d71a40"],
            "7eea35b9a291f891",
            "b61d9d1537763402",
        ),
        (
            {"source": "cued-digits", "num_train": 300, "flip": 0.25},
            "6ca682698c6e84e6",
            ["a08608184d56a428", "11ca01821b9cfa08"],
            "4f4336c5e276ff30",
            "27f87d3319ab23d9",
        ),
        (
            {"source": "cued-digits", "num_train": 300, "image_size": 16, "flip": 0.25},
            "73bf4e104b3a9bbc",
            ["0fb98e0a7acbd0e9", "c92ca5e9b894377f"],
            "58917a1181f2b87c",
            "f70387a5aa082127",
        ),
    ],
)
def test_made_sources_are_as_they_were(config, fingerprint, train, val, test):
    data = open_data(DataConfig(**config))
    assert data.fingerprint.startswith(fingerprint)
    assert [hash_of(data.train_batches(batch_size=64, seed=3, on=CPU), epoch) for epoch in (0, 2)] == train
    assert hash_of(data.val_batches(batch_size=64, on=CPU), 0) == val
    assert hash_of(data.test_batches(batch_size=64, on=CPU), 0) == test


@pytest.mark.parametrize(
    ("num_channels", "dtype", "recipe", "expected"),
    [
        (3, np.uint8, "cifar", "475a503e168121e2"),
        (1, np.uint8, "cifar", "f3ba2f0d9462e9af"),
        (3, np.float64, "digits", "ffefcf53211aceeb"),
        (3, np.uint8, "imagenet", "69717c23491f614c"),
    ],
)
def test_pixels_and_their_layout_are_as_they_were(num_channels, dtype, recipe, expected):
    images = np.random.default_rng(0).integers(256, size=(150, num_channels, 32, 32)).astype(dtype)
    part = ArrayPart(images, np.arange(150) % 10)
    config = DataConfig(source="python:x:y", recipe=recipe)
    data = ArrayData(config, lambda _: part, class_names=tuple("0123456789"), num_test=0)
    batches = data.train_batches(batch_size=64, seed=3, on=CPU)
    assert hash_of(batches, 1) == expected
    (batch, _) = next(iter(batches))
    assert batch.stride() == (32 * 32 * num_channels, 1, 32 * num_channels, num_channels)
    assert np.array_equal(part.images, images), "what is held stays as it is"
