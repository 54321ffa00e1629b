"""torchvision's small sets: their pixels in memory, their test images as the test part."""

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, KMNIST, QMNIST

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data import open_data, splits
from nas.training.data.torch_sets import NUM_TEST

CPU = torch.device("cpu")


def write_idx(path, array):
    kind = bytes((0, 0, 8 if array.dtype == np.uint8 else 12, array.ndim))
    path.write_bytes(kind + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes())


def grey(count, seed):
    random = np.random.default_rng(seed)
    return random.integers(256, size=(count, 28, 28), dtype=np.uint8), (np.arange(count) % 10).astype(np.uint8)


@pytest.fixture
def kmnist(tmp_path):
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, count in (("train", 100), ("t10k", 20)):
        images, labels = grey(count, count)
        write_idx(raw / f"{stem}-images-idx3-ubyte", images)
        write_idx(raw / f"{stem}-labels-idx1-ubyte", labels)
    return tmp_path


def assert_as_torchvision_shows(part, theirs):
    shown = {np.asarray(image).tobytes(): label for image, label in theirs}
    for image, label in zip(part.images, part.labels, strict=True):
        assert shown[np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()] == label


def test_grey_images_are_what_torchvision_shows(kmnist):
    data = open_data(DataConfig(source=f"torch/kmnist:{kmnist}"))
    assert data.input_size == (1, 28, 28)
    assert (data.summary.num_train, data.summary.num_val, data.summary.num_test) == (80, 20, 10_000)
    assert data.summary.class_names == tuple(KMNIST(kmnist).classes)
    for part, is_training in (("train", True), ("val", True), ("test", False)):
        assert_as_torchvision_shows(data._read(part), KMNIST(kmnist, train=is_training))
    assert sum(len(labels) for _, labels in data.test_batches(batch_size=8, on=CPU)) == 20


def test_the_division_is_that_of_the_labels(kmnist):
    data = open_data(DataConfig(source=f"torch/KMNIST:{kmnist}", num_train=30, split_seed=3))
    assert data.summary.class_counts == (3,) * 10
    cut = splits.scheme_splits(DataConfig(source=f"torch/kmnist:{kmnist}"))
    assert set(cut) == {"train", "test"}


def test_the_test_images_are_opened_when_asked_for(kmnist, monkeypatch):
    opened = []
    create = splits.create_dataset

    def watched(name, *, split, **more):
        opened.append(split)
        return create(name, split=split, **more)

    monkeypatch.setattr(splits, "create_dataset", watched)
    data = open_data(DataConfig(source=f"torch/kmnist:{kmnist}"))
    assert opened == ["train"]
    data.test_batches(batch_size=8, on=CPU)
    assert opened == ["train", "validation"]


def test_of_qmnists_labels_the_first_counts(tmp_path):
    raw = tmp_path / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = grey(100, 0)
    write_idx(raw / "qmnist-train-images-idx3-ubyte", images)
    several = np.stack([labels, *[np.full(100, 77)] * 7], axis=1).astype(">i4")
    write_idx(raw / "qmnist-train-labels-idx2-int", several)
    data = open_data(DataConfig(source=f"torch/qmnist:{tmp_path}"))
    assert data.summary.num_test == 60_000
    assert_as_torchvision_shows(data._read("train"), QMNIST(tmp_path))


def test_colour_images_are_what_torchvision_shows(monkeypatch):
    theirs = CIFAR10.__new__(CIFAR10)  # whose files are pickles
    theirs.data = np.random.default_rng(0).integers(256, size=(60, 3, 32, 32), dtype=np.uint8).transpose(0, 2, 3, 1)
    theirs.targets, theirs.classes = [i % 3 for i in range(60)], ["cat", "dog", "ship"]
    theirs.transform = theirs.target_transform = None
    monkeypatch.setattr(splits, "create_dataset", lambda *_, **__: theirs)
    data = open_data(DataConfig(source="torch/cifar10:/data"))
    assert data.input_size == (3, 32, 32)
    assert_as_torchvision_shows(data._read("train"), theirs)
    (images, _) = next(iter(data.train_batches(batch_size=16, seed=0, on=CPU)))
    assert images.shape == (16, 3, 32, 32)


@pytest.mark.parametrize("kind", NUM_TEST)
def test_sets_that_are_not_there(tmp_path, kind):
    with pytest.raises(DataError, match=rf"{kind}:.*: cannot be opened: Dataset not found"):
        open_data(DataConfig(source=f"{kind}:{tmp_path}"))
