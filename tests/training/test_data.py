"""In-memory data: division, order, augmentation, cache, faults."""

import numpy as np
import pytest
import torch

from nas.errors import DataError, UserError
from nas.training.config import DataConfig
from nas.training.data import describe, open_data
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.batches import TensorBatches
from nas.training.data.cluttered import draw_canvases
from nas.training.data.crop import Flip, Shift
from nas.training.data.cued import draw_pairs
from nas.training.data.digits import all_digits, digits_of
from nas.training.data.pipeline import Pipeline
from nas.training.summary import stratified_split

CPU = torch.device("cpu")


def flat(batches):
    pairs = list(batches)
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


def raw(data, images):
    """Undo the standardisation, as bytes."""
    return (images / data._scale[:, None, None] + data._mean[:, None, None]).round().to(torch.uint8)


def rows(images):
    return {image.contiguous().numpy().tobytes() for image in images}


def test_the_digits_are_described():
    summary = describe(DataConfig())
    assert (summary.num_train, summary.num_val, summary.num_test) == (1079, 359, 359)
    assert summary.input_size == (1, 8, 8)
    assert summary.class_names == tuple("0123456789")
    assert sum(summary.class_counts) == 1079
    assert max(summary.class_counts) - min(summary.class_counts) <= 10
    assert summary.fingerprint == describe(DataConfig()).fingerprint
    assert summary.fingerprint != describe(DataConfig(split_seed=1)).fingerprint
    assert summary.to_dict()["num_classes"] == 10


def test_the_split_is_a_stratified_partition():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    split = stratified_split(labels, val_fraction=0.2, test_fraction=0.1, seed=3)
    assert sorted(np.concatenate(list(split.values()))) == list(range(160))
    assert np.bincount(labels[split["val"]]).tolist() == [20, 10, 2]
    assert np.bincount(labels[split["test"]]).tolist() == [10, 5, 1]
    assert np.bincount(labels[split["train"][:21]]).tolist() == [7, 7, 7], "every prefix is balanced"


def test_training_and_validation_never_hold_a_test_image(digits, monkeypatch):
    """Every image the loaders give is of its own part, and the search never reads the test part."""
    asked = []
    read = digits._read
    monkeypatch.setattr(digits, "_read", lambda part: asked.append(part) or read(part))
    parts = digits_of(DataConfig())
    test = rows(torch.from_numpy(parts["test"].images))
    run = digits.run_data(batch_size=32, seed=0, on=CPU)
    for loader, part in ((run.train_dataloader(), "train"), (run.val_dataloader(), "val")):
        images, _ = flat(batch for batch, _, _ in iter(loader))
        given = rows(raw(digits, images))
        assert given <= rows(torch.from_numpy(parts[part].images))
        assert not given & test
    assert asked == []
    images, labels = flat(batch for batch, _, _ in iter(run.test_dataloader()))
    assert asked == ["test"]
    assert rows(raw(digits, images)) == test
    assert len(labels) == digits.summary.num_test


def test_the_order_is_a_function_of_seed_and_epoch_alone(digits):
    def epoch(seed, number):
        batches = digits.train_batches(batch_size=48, seed=seed, on=CPU)
        torch.rand(3)  # other uses of the global generator play no part
        batches.set_epoch(number)
        return flat(batches)

    images, labels = epoch(1, 2)
    again, labels_again = epoch(1, 2)
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)
    assert not torch.equal(labels, epoch(1, 3)[1])
    assert not torch.equal(labels, epoch(2, 2)[1])


def test_an_epoch_holds_every_image_once_in_even_batches(digits):
    batches = digits.train_batches(batch_size=64, seed=0, on=CPU)
    sizes = [len(labels) for _, labels in batches]
    assert sizes == [50, 50, 50, 50]
    images, labels = flat(batches)
    train, train_labels = digits._parts["train"]
    order = sorted(range(200), key=lambda i: raw(digits, images)[i].numpy().tobytes())
    expected = sorted(range(200), key=lambda i: train[i].numpy().tobytes())
    assert torch.equal(raw(digits, images)[order], train[expected])
    assert sorted(labels.tolist()) == sorted(train_labels.tolist())


def test_images_are_standardised(digits):
    images, _ = flat(digits.train_batches(batch_size=64, seed=0, on=CPU))
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std().item() == pytest.approx(1, abs=1e-3)


def test_shift_and_flip_against_a_loop():
    """One gather gives what cutting and flipping each image by itself gives."""
    bare = torch.arange(1, 1 + 6 * 2 * 5 * 5, dtype=torch.float32).view(6, 2, 5, 5)
    images = torch.nn.functional.pad(bare, (2, 2, 2, 2))
    one, zero = torch.ones(2, 1, 1), torch.zeros(2, 1, 1)
    pipeline = Pipeline(before=(Shift(2), Flip(0.5)))
    batches = TensorBatches(bare, torch.arange(6), batch_size=4, mean=zero, scale=one, seed=0, pipeline=pipeline)
    cuts = {
        (i, flipped): [
            images[i, :, y : y + 5, x : x + 5].flip(2) if flipped else images[i, :, y : y + 5, x : x + 5]
            for y in range(5)
            for x in range(5)
        ]
        for i in range(6)
        for flipped in (False, True)
    }
    seen_flips = set()
    for x, y in batches:
        for image, label in zip(x, y.tolist(), strict=True):
            found = [f for f in (False, True) if any(torch.equal(image, cut) for cut in cuts[label, f])]
            assert len(found) == 1
            seen_flips.add(found[0])
    assert seen_flips == {False, True}


def test_size_and_channels_can_be_asked_for():
    data = open_data(DataConfig(image_size=16, in_chans=3, num_train=20, augment=False))
    images, _ = next(iter(data.val_batches(batch_size=8, on=CPU)))
    assert images.shape[1:] == data.input_size == (3, 16, 16)
    assert torch.equal(images[:, 0], images[:, 2])


def test_more_training_images_than_there_are():
    with pytest.raises(DataError, match="num_train: 5000 asked for, but digits has 1079 training images"):
        open_data(DataConfig(num_train=5000))


def test_cluttered_digits_are_deterministic_and_cached(cache):
    config = DataConfig(source="cluttered-digits", num_train=40)
    first = open_data(config)
    assert first.summary.input_size == (1, 24, 24)
    assert (first.summary.num_train, first.summary.num_val, first.summary.num_test) == (40, 10, 10)
    files = sorted(path.name for path in cache.iterdir())
    assert len(files) == 2, "the test canvases are not made by a search"
    assert open_data(config).fingerprint == first.fingerprint
    broken = cache / files[0]
    broken.write_bytes(broken.read_bytes()[:-40])
    assert open_data(config).fingerprint == first.fingerprint, "a damaged file is made again"
    assert open_data(config.model_copy(update={"split_seed": 1})).fingerprint != first.fingerprint
    flat(first.test_batches(batch_size=8, on=CPU))
    assert len(list(cache.iterdir())) == 5


def test_a_canvas_holds_its_digit_whole():
    digits = digits_of(DataConfig())["val"]
    drawn = draw_canvases(digits, 3, [1, 2, 3])
    canvas = torch.from_numpy(drawn.images).float() / 255
    for image, label in zip(canvas, drawn.labels, strict=True):
        windows = image[0].unfold(0, 8, 1).unfold(1, 8, 1)  # (17, 17, 8, 8)
        own = torch.from_numpy(digits.images[digits.labels == label][:, 0]).float() / 16
        missing = (own[:, None, None] - windows).clamp_min(0)  # ink of the digit that the window lacks
        assert missing.amax((3, 4)).min() < 0.45  # nothing but noise takes ink away


@pytest.mark.parametrize("seed", range(3))
def test_the_mark_tells_which_digit_counts(seed):
    digits = digits_of(DataConfig())["val"]
    drawn = draw_pairs(digits, 40, [seed])
    red, green, blue = (torch.from_numpy(drawn.images).float() / 255 - 0.25).mul(2).unbind(1)
    marked = blue.unfold(1, 2, 1).unfold(2, 2, 1).mean((3, 4)).amax((1, 2)) > 0.6
    assert 8 < marked.sum() < 32
    for image, label in zip(torch.where(marked[:, None, None], red, green), drawn.labels, strict=True):
        windows = image.unfold(0, 8, 1).unfold(1, 8, 1)  # (3, 3, 8, 8)
        own = torch.from_numpy(digits.images[digits.labels == label][:, 0]).float() / 16
        away = (own[:, None, None] - windows).abs().amax((3, 4)).min()
        assert away < 0.5, "this colour shows no digit of the label"


def test_cued_digits_are_deterministic_and_need_their_colours():
    config = DataConfig(source="cued-digits", num_train=40)
    first = open_data(config)
    assert first.summary.input_size == (3, 10, 10)
    assert (first.summary.num_train, first.summary.num_val, first.summary.num_test) == (40, 1024, 1024)
    assert open_data(config).fingerprint == first.fingerprint
    assert open_data(config.model_copy(update={"split_seed": 1})).fingerprint != first.fingerprint
    with pytest.raises(UserError, match="cued-digits need their colours; expected 3 or nothing, got 1"):
        open_data(config.model_copy(update={"in_chans": 1}))


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FUSION_NAS_CACHE", str(tmp_path / "file" / "cache"))
    assert open_data(DataConfig(source="cluttered-digits", num_train=8)).summary.num_train == 8


def _arrays(image=None, label=None):
    digits = all_digits()
    images, labels = digits.images[:40].astype(np.float32), digits.labels[:40].copy()
    if image is not None:
        images[7, 0, 3, 3] = image
    if label is not None:
        labels[9] = label
    return lambda part: ArrayPart(images, labels)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_a_data_error(value):
    with pytest.raises(DataError, match="digits: train part: image 7 holds values that are not finite"):
        ArrayData(DataConfig(), _arrays(image=value), class_names=tuple("0123456789"), num_test=0)


@pytest.mark.parametrize("value", [-1, 10])
def test_labels_out_of_range_are_a_data_error(value):
    with pytest.raises(DataError, match=f"label {value} of image 9, expected one from 0 to 9"):
        ArrayData(DataConfig(), _arrays(label=value), class_names=tuple("0123456789"), num_test=0)
