"""Fashion-MNIST from Debian's files (apt-get install dataset-fashion-mnist), and IDX files that are no good."""

import gzip
import shutil

import numpy as np
import pytest
import torch
from torchvision.datasets import FashionMNIST

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data import open_data
from nas.training.data.arrays import ArrayData, ArrayPart, moments
from nas.training.data.fashion import CLASSES, DEBIAN
from nas.training.data.idx import read_idx


def test_debians_files_are_what_torchvision_shows(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in DEBIAN.iterdir():
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    theirs = FashionMNIST(tmp_path, train=False)
    ours = open_data(DataConfig(source="fashion-mnist"))
    test = ours._read("test")
    assert tuple(theirs.classes) == CLASSES == ours.summary.class_names
    assert (ours.summary.num_train, ours.summary.num_val, ours.summary.num_test) == (48_000, 12_000, 10_000)
    assert ours.input_size == (1, 28, 28)
    for i in (0, 1, 9_999):
        image, label = theirs[i]
        assert np.array_equal(test.images[i, 0], np.asarray(image))
        assert test.labels[i] == label
    assert open_data(DataConfig(source=f"fashion-mnist:{tmp_path}")).fingerprint == ours.fingerprint


def test_the_test_images_are_read_only_when_asked_for(tmp_path):
    for file in DEBIAN.glob("train-*"):
        shutil.copy(file, tmp_path)
    data = open_data(DataConfig(source=f"fashion-mnist:{tmp_path}", num_train=100))
    assert data.summary.class_counts == (10,) * 10
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz: cannot be read: No such file"):
        data.test_batches(batch_size=8, on=torch.device("cpu"))


def test_where_it_is_missing_it_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"no Fashion-MNIST there .* apt-get install dataset-fashion-mnist, or"):
        open_data(DataConfig(source=f"fashion-mnist:{tmp_path}"))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "expected an IDX file of bytes in 1 dimensions, got $"),
        (bytes((0, 0, 13, 1, 0, 0, 0, 1, 7)), "expected an IDX file of bytes in 1 dimensions, got 00000d01"),
        (bytes((0, 0, 8, 1, 0, 0, 0, 2, 7)), r"expected 10 bytes for an array of \(2,\), got 9"),
    ],
)
def test_bad_idx_files(tmp_path, content, fault):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=fault):
        read_idx(tmp_path / "x", 1)


def test_a_truncated_gzip_file_is_named(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes((0, 0, 8, 1, 0, 0, 0, 2, 7, 8)))[:-9])
    with pytest.raises(DataError, match=r"x.gz: cannot be read: Compressed file ended"):
        read_idx(tmp_path / "x.gz", 1)


def test_moments_of_a_large_set_go_piece_by_piece(monkeypatch):
    images = torch.randint(256, (100, 3, 5, 5), dtype=torch.uint8)
    mean, scale = moments(images)
    monkeypatch.setattr("nas.training.data.arrays.AT_ONCE", 2_000)
    for whole, pieces in zip((mean, scale), moments(images), strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-6, atol=0)


def test_images_mapped_from_a_file_are_used_as_they_lie(tmp_path):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(256, size=(40, 3, 16, 16), dtype=np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    names = [f"{i}.png" for i in range(40)]
    part = ArrayPart(images, np.arange(40) % 2, names=names)
    config = DataConfig(source="folder:x")
    data = ArrayData(config, lambda _: part, class_names=("a", "b"), num_test=0, fingerprint="f")
    batches = data.train_batches(batch_size=16, seed=0, on=torch.device("cpu"))
    assert batches.images.data_ptr() == images.ctypes.data
    assert batches.origin(0, 3) in names
    assert data.fingerprint == "f"
