"""Image folders as `data.reading` 1 reads them, and timm's other schemes."""

import multiprocessing
import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data import describe, listing, open_data, splits
from nas.training.data.listing import list_images

CPU = torch.device("cpu")


def config(root, **more):
    return DataConfig(source=f"folder:{root}", image_size=16, reading=1, **more)


def files(listed, part):
    chosen = listed.parts[part]
    return {chosen.file(i) for i in range(len(chosen))}


def test_class_folders_are_split_evenly(image_folder):
    summary = describe(config(image_folder))
    assert summary.class_names == ("one", "two", "zero")
    assert summary.class_counts == (12, 12, 12)
    assert (summary.num_train, summary.num_val, summary.num_test) == (36, 12, 12)
    assert summary.input_size == (3, 16, 16)


def test_the_parts_share_no_file(image_folder):
    listed = list_images(config(image_folder))
    train, val, test = (files(listed, part) for part in ("train", "val", "test"))
    assert len(train | val | test) == 60
    assert not train & val
    assert not (train | val) & test


def test_a_search_never_opens_a_test_file(image_folder, monkeypatch):
    """Not even to see whether it can be read."""
    for file in files(list_images(config(image_folder)), "test"):
        file.write_bytes(b"x" * file.stat().st_size)
    data = open_data(config(image_folder))
    run = data.run_data(batch_size=8, seed=0, on=CPU)
    assert sum(len(y) for (_, y), _, _ in iter(run.train_dataloader())) == 36
    assert sum(len(y) for (_, y), _, _ in iter(run.val_dataloader())) == 12
    with pytest.raises(DataError, match="not a readable image"):
        run.test_dataloader()


def test_subfolders_are_the_parts(image_folder, tmp_path):
    root = tmp_path / "divided"
    for part, numbers in {"train": range(10), "validation": range(10, 14), "test": range(14, 20)}.items():
        for name in ("zero", "one", "two"):
            (root / part / name).mkdir(parents=True)
            for file in (image_folder / name).iterdir():
                if int(file.stem) in numbers:
                    shutil.copy(file, root / part / name)
    summary = describe(config(root))
    assert (summary.num_train, summary.num_val, summary.num_test) == (30, 12, 18)
    shutil.rmtree(root / "validation")
    summary = describe(config(root))
    assert (summary.num_train, summary.num_val, summary.num_test) == (24, 6, 18)
    (root / "test" / "one").rename(root / "test" / "three")
    with pytest.raises(DataError, match=r"test/three: a class without training images"):
        describe(config(root))


def test_batches_are_a_function_of_seed_and_epoch(image_folder):
    data = open_data(config(image_folder))

    def epoch(seed, number):
        batches = data.train_batches(batch_size=16, seed=seed, on=CPU)
        random.seed(random.getrandbits(32))
        batches.set_epoch(number)
        pairs = list(batches)
        return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])

    x, y = epoch(0, 1)
    assert x.shape == (36, 3, 16, 16)
    assert sorted(y.tolist()) == [0] * 12 + [1] * 12 + [2] * 12
    before = random.getstate(), torch.get_rng_state()
    again = epoch(0, 1)
    assert torch.equal(before[1], torch.get_rng_state()), "global generators are left alone"
    assert torch.equal(x, again[0])
    assert not torch.equal(x, epoch(0, 2)[0])
    assert not torch.equal(x, epoch(1, 1)[0])


def test_validation_images_are_standardised_and_fixed(image_folder):
    data = open_data(config(image_folder, in_chans=1))
    first, second = (list(data.val_batches(batch_size=8, on=CPU)) for _ in range(2))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))
    listed = list_images(config(image_folder, in_chans=1))
    with Image.open(listed.parts["val"].file(0)) as image:
        expected = (np.asarray(image.convert("L"), np.float64) / 255 - 0.449) / 0.226
    np.testing.assert_allclose(first[0][0][0, 0].numpy(), expected, atol=1e-4)


def test_loader_processes_give_the_same_batches(image_folder, tmp_path, monkeypatch):
    """Also where the folder of temporary files is cleaned meanwhile."""
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", str(sockets))

    def labels_and_sum(workers):
        batches = open_data(config(image_folder, workers=workers)).train_batches(batch_size=4, seed=0, on=CPU)
        for x, y in batches:
            shutil.rmtree(sockets, ignore_errors=True)
            yield y.tolist(), x.sum().item()

    assert list(labels_and_sum(1)) == list(labels_and_sum(0))


def test_the_fingerprint_sees_a_changed_file(image_folder):
    before = describe(config(image_folder)).fingerprint
    assert describe(config(image_folder)).fingerprint == before
    file = min(files(list_images(config(image_folder)), "train"))
    Image.new("L", (40, 40)).save(file)
    assert describe(config(image_folder)).fingerprint != before


def test_missing_empty_and_misplaced_images(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder of images"):
        describe(config(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no images in it \(looked for \.png, \.jpg, \.jpeg, \.tif, \.tiff\)"):
        describe(config(tmp_path / "empty"))
    Image.new("L", (8, 8)).save(tmp_path / "empty" / "a.png")
    with pytest.raises(DataError, match=r"empty: expected one folder for each class, found images beside them"):
        describe(config(tmp_path / "empty"))


def test_one_class_is_not_enough(image_folder):
    for name in ("one", "two"):
        shutil.rmtree(image_folder / name)
    with pytest.raises(DataError, match="expected at least 2 classes, found 1"):
        describe(config(image_folder))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_broken_image_is_named(image_folder, damage):
    file = min(f for f in files(list_images(config(image_folder)), "train") if f.suffix == ".jpg")
    content = {"truncated": file.read_bytes()[:-60], "empty": b"", "text": b"not an image"}[damage]
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{file}: not a readable image: \S[^\n]*$"):
        open_data(config(image_folder))


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_float_image_that_is_not_finite_is_named(image_folder, part, value):
    """No architecture is to blame for it; Pillow would make a black dot of it."""
    file = min(files(list_images(config(image_folder)), part))
    pixels = np.full((16, 16), 200, np.float32)
    Image.fromarray(pixels).save(file, format="TIFF")
    open_data(config(image_folder))
    pixels[3, 3] = value
    Image.fromarray(pixels).save(file, format="TIFF", compression="tiff_deflate")
    with pytest.raises(DataError, match=rf"^{file}: holds values that are not finite$"):
        open_data(config(image_folder))


def test_tiff_files_are_images(image_folder):
    Image.fromarray(np.full((16, 16), 200, np.float32)).save(image_folder / "one" / "x.tif")
    assert sum(describe(config(image_folder)).class_counts) == 37


def test_a_file_is_verified_once_until_it_changes(image_folder, monkeypatch):
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or real(path))
    open_data(config(image_folder))
    assert len(opened) == 48
    open_data(config(image_folder))
    assert len(opened) == 48
    changed = opened[0]
    Image.new("L", (20, 20)).save(changed)
    opened.clear()
    open_data(config(image_folder))
    assert opened == [changed]


def test_torchvision_data_sets_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"torch/cifar10:.*: cannot be opened: Dataset not found"):
        describe(DataConfig(source=f"torch/cifar10:{tmp_path}"))
    with pytest.raises(DataError, match=r"cannot be opened: Unknown torchvision dataset nope"):
        describe(DataConfig(source=f"torch/nope:{tmp_path}"))


def test_a_scheme_without_its_package_says_which():
    with pytest.raises(DataError, match=r"hfds/mnist: this source needs another package: .*datasets"):
        describe(DataConfig(source="hfds/mnist"))


class _Stream:
    """Stands for timm's IterableImageDataset, whose packages are not installed here."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        for i in range(self.count):
            yield Image.new("RGB", (20, 20), (i, 0, 0)), i % 2


def _create_streams(monkeypatch, **counts):
    def create(name, root, split, **_):
        if split not in counts:
            raise ValueError(f"unknown split {split}")
        return _Stream(counts[split])

    monkeypatch.setattr(splits, "create_dataset", create)


def test_a_stream_is_read_into_memory_and_divided(monkeypatch):
    _create_streams(monkeypatch, train=50)
    data = open_data(DataConfig(source="wds/shards:/data", image_size=16, num_train=20))
    assert (data.summary.num_train, data.summary.num_val, data.summary.num_test) == (20, 10, 10)
    assert data.input_size == (3, 16, 16)
    assert sum(len(labels) for _, labels in data.test_batches(batch_size=4, on=CPU)) == 10
    batches = data.train_batches(batch_size=20, seed=0, on=CPU)
    places = set(batches.images[:, 0, 0, 0].tolist())
    assert len(places) == 20
    assert max(places) >= 40, "of all of it, not of its beginning"
    assert data.summary.class_counts == (10, 10)


def test_a_stream_with_a_test_split_of_its_own(monkeypatch):
    _create_streams(monkeypatch, train=50, test=12)
    summary = open_data(DataConfig(source="wds/shards:/data", image_size=16)).summary
    assert (summary.num_train, summary.num_val, summary.num_test) == (40, 10, 12)
    with pytest.raises(DataError, match="num_train: 41 asked for, but wds/shards:/data has 40 training images"):
        open_data(DataConfig(source="wds/shards:/data", image_size=16, num_train=41))


@pytest.mark.parametrize(
    ("counts", "fingerprint"),
    [
        ({"train": 50}, "f506d52e170ccae8ea7ccbb7608d832e0aea8df8a17bd374d0f42c2e8ec7cd3f"),
        ({"train": 50, "validation": 12}, "7de09cbc8dc3f366a820ed2ec88f36ccd000423e5d6ccfa0f597626868b3055e"),
        ({"train": 50, "test": 12}, "b5979366f56b9abd32415617fb98e7d8ea3376232827d6131bfde9d4658e5fd3"),
    ],
)
def test_a_stream_that_an_older_version_began_goes_on(monkeypatch, counts, fingerprint):
    """Taken with the version before `data.reading`: the beginning of the stream, divided after it was cut off."""
    _create_streams(monkeypatch, **counts)
    config = DataConfig(source="wds/shards:/data", image_size=16, num_train=40, reading=1)
    assert open_data(config).fingerprint == fingerprint


def test_torchvision_splits(monkeypatch):
    class Cifar:
        classes = ("cat", "dog")

        def __init__(self, count):
            self.targets = [i % 2 for i in range(count)]

        def __getitem__(self, index):
            return Image.new("RGB", (32, 32), (index, 0, 0)), self.targets[index]

        def __len__(self):
            return len(self.targets)

    monkeypatch.setattr(splits, "create_dataset", lambda name, root, split, **_: Cifar(40 if split == "train" else 10))
    summary = list_images(DataConfig(source="torch/cifar10:/data", image_size=32)).summary
    assert (summary.num_train, summary.num_val, summary.num_test) == (32, 8, 10)
    assert summary.class_names == ("cat", "dog")
    imagenet = DataConfig(source="torch/imagenet:/data", image_size=32)
    for expected, more in (((32, 8, 10), {}), ((40, 10, 0), {"val_is": "val"}), ((40, 10, 0), {"reading": 1})):
        summary = describe(imagenet.model_copy(update=more))
        assert (summary.num_train, summary.num_val, summary.num_test) == expected


def test_sixteen_bits_are_scaled_not_cut_off():
    levels = np.array([[0, 255], [256, 65535]], dtype=np.uint16)
    assert np.asarray(listing.as_seen(Image.fromarray(levels), "L")).tolist() == [[0, 0], [1, 255]]


def test_a_picture_is_turned_as_its_exif_data_says(tmp_path):
    picture = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90° clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as stored:
        seen = np.asarray(listing.as_seen(stored, "L"))
    assert seen.tolist() == np.rot90(np.asarray(picture), -1).tolist()
