"""torchvision's small sets: their pixels in memory, their test images as the test part."""

import hashlib

import numpy as np
import pytest
import scipy.io
import torch
from torchvision.datasets import CIFAR10, EMNIST, KMNIST, QMNIST, STL10, SVHN

from nas.errors import DataError, UserError
from nas.training.config import EMNIST_SPLITS, DataConfig
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


def digest_of(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def svhn(tmp_path, monkeypatch):
    """House numbers as MATLAB keeps them: images (H, W, C, N), and the label of 0 is 10."""
    for split, count in (("train", 60), ("test", 20)):
        images = np.random.default_rng(count).integers(256, size=(32, 32, 3, count), dtype=np.uint8)
        path = tmp_path / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images, "y": (np.arange(count) % 10 + 1)[:, None].astype(np.uint8)})
        monkeypatch.setitem(SVHN.split_list, split, ["", path.name, digest_of(path)])
    return tmp_path


def test_house_numbers(svhn):
    data = open_data(DataConfig(source=f"torch/svhn:{svhn}"))
    assert data.input_size == (3, 32, 32)
    assert (data.summary.num_train, data.summary.num_val, data.summary.num_test) == (50, 10, 26_032)
    assert data.summary.class_names == tuple("0123456789")
    for part, split in (("train", "train"), ("val", "train"), ("test", "test")):
        assert_as_torchvision_shows(data._read(part), SVHN(svhn, split))


@pytest.fixture
def stl10(tmp_path, monkeypatch):
    """Pictures column by column, and labels from 1."""
    root = tmp_path / "stl10_binary"
    root.mkdir()
    (root / "class_names.txt").write_text("airplane\nbird\ncar\n")
    for split, count in (("train", 30), ("test", 12)):
        images = np.random.default_rng(count).integers(256, size=(count, 3, 96, 96), dtype=np.uint8)
        (root / f"{split}_X.bin").write_bytes(images.tobytes())
        (root / f"{split}_y.bin").write_bytes((np.arange(count) % 3 + 1).astype(np.uint8).tobytes())
        names = [f"{split}_{what}.bin" for what in "Xy"]
        monkeypatch.setattr(STL10, f"{split}_list", [[name, digest_of(root / name)] for name in names])
    return tmp_path


def test_pictures_of_96_pixels(stl10):
    data = open_data(DataConfig(source=f"torch/STL10:{stl10}"))
    assert data.input_size == (3, 96, 96)
    assert (data.summary.num_train, data.summary.num_val, data.summary.num_test) == (24, 6, 8_000)
    assert data.summary.class_names == ("airplane", "bird", "car")
    for part, split in (("train", "train"), ("test", "test")):
        assert_as_torchvision_shows(data._read(part), STL10(stl10, split))


def write_emnist(root, split, labels):
    raw = root / "EMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for part, kept in (("train", labels), ("test", labels[:20])):
        write_idx(raw / f"emnist-{split}-{part}-images-idx3-ubyte", grey(len(kept), len(kept))[0])
        write_idx(raw / f"emnist-{split}-{part}-labels-idx1-ubyte", kept.astype(np.uint8))


def test_letters_count_from_0(tmp_path):
    write_emnist(tmp_path, "letters", np.arange(104) % 26 + 1)
    data = open_data(DataConfig(source=f"torch/emnist/letters:{tmp_path}"))
    assert data.summary.class_names == tuple("abcdefghijklmnopqrstuvwxyz")
    assert data.summary.num_test == 20_800
    shown = [(image, label - 1) for image, label in EMNIST(tmp_path, "letters")]
    assert_as_torchvision_shows(data._read("train"), shown)
    assert data._read("test").labels.tolist() == list(range(20))


def test_a_subset_keeps_the_shares_of_the_classes(tmp_path):
    """By class, EMNIST's digits are far more than most letters."""
    write_emnist(tmp_path, "byclass", np.concatenate([np.full(500, 3), np.repeat(np.arange(62), 10)]))

    def counts(**more):
        source = f"torch/EMNIST/byclass:{tmp_path}"
        return open_data(DataConfig(source=source, num_train=434, **more)).summary.class_counts

    kept, equal = counts(), counts(balanced=True)
    assert (kept[3], kept[4]) == (190, 4), "half of 408 and of 8, but that each class comes first once"
    assert (equal[3], equal[4]) == (7, 7)


@pytest.mark.parametrize(("more", "fingerprint"), [({}, "774a42c36c2e39ca"), ({"num_train": 60}, "1b008f0a62574d4f")])
def test_studies_of_mnist_go_on(tmp_path, more, fingerprint):
    """Its classes are not quite equal, and its subsets were balanced before there was `data.balanced`."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    labels = np.concatenate([np.arange(100) % 10, np.full(40, 1)]).astype(np.uint8)
    for stem in ("train", "t10k"):
        write_idx(raw / f"{stem}-images-idx3-ubyte", grey(140, 0)[0])
        write_idx(raw / f"{stem}-labels-idx1-ubyte", labels)
    data = open_data(DataConfig(source=f"torch/mnist:{tmp_path}", **more))
    assert data.fingerprint.startswith(fingerprint)


@pytest.mark.parametrize("source", ["torch/emnist:/x", "torch/EMNIST/words:/x", "torch/emnist/:/x"])
def test_a_division_of_emnist_must_be_named(source):
    with pytest.raises(
        UserError, match=r"source: '.*': expected torch/emnist/SPLIT:ROOT, SPLIT one of byclass, bymerge"
    ):
        DataConfig.parse({"source": source}, "s.yaml")


def test_the_sizes_of_emnists_divisions_are_those_that_torchvision_knows():
    assert set(EMNIST_SPLITS) == set(EMNIST.splits)


@pytest.mark.parametrize("kind", NUM_TEST)
def test_sets_that_are_not_there(tmp_path, kind):
    with pytest.raises(DataError, match=rf"{kind}:.*: cannot be opened: Dataset not found"):
        open_data(DataConfig(source=f"{kind}:{tmp_path}"))
