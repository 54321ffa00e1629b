"""RandAugment of whole batches beside timm's, image by image."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data import open_data
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.randaugment import CHANGES, ONE_WAY, TWO_WAYS, RandAugment

CPU = torch.device("cpu")
NAMES = (*ONE_WAY, *TWO_WAYS)
SIDE = 24


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(num_channels):
    """An image (C, H, W) without edges, of nearly all values."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = [127 + 110 * np.sin(5 * x + 3 * y * k + k) for k in range(1, num_channels + 1)]
    return torch.from_numpy(np.stack(waves).round().astype(np.uint8))


def as_timm_does(image, name, magnitude):
    """timm's change of an image (C, H, W), and whether it went the other way."""
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels)
    level = timm.LEVEL_TO_ARG[name]
    arguments = level(magnitude, {}) if level else ()
    more = {"fillcolor": (128,) * len(image) if len(image) > 1 else 128, "resample": Image.Resampling.BILINEAR}
    changed = np.array(timm.NAME_TO_OP[name](picture, *arguments, **more))
    return torch.from_numpy(changed.reshape(SIDE, SIDE, -1)).permute(2, 0, 1), name in TWO_WAYS and arguments[0] < 0


def test_the_changes_are_timms():
    assert sorted(NAMES) == sorted(timm._RAND_TRANSFORMS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_channels", [1, 3])
def test_each_change_is_what_timm_does(name, num_channels):
    image = smooth(num_channels)
    random.seed(0)
    for magnitude in (3, 3, 9, 9, 10, 10):  # twice, for both ways
        expected, is_reversed = as_timm_does(image, name, magnitude)
        number = (NAMES.index(name) + 1) * (-1 if is_reversed else 1)
        found = RandAugment(magnitude, 1)(image[None], torch.tensor([[number]]))[0]
        apart = (found.int() - expected.int()).abs()
        assert apart.float().quantile(0.9) <= 2, "all but the edge of what came in is the same"
        assert apart.float().mean() < (4 if name in TWO_WAYS else 0.5)


def test_each_image_has_its_own_changes_in_its_own_order():
    images = torch.randint(256, (40, 3, SIDE, SIDE), generator=generator(), dtype=torch.uint8)
    before = images.clone()
    step = RandAugment(9, 3)
    numbers = step.draw(torch.arange(40), generator(1))
    found = step(images, numbers)
    assert torch.equal(images, before), "the images that are held stay as they are"
    for image, own, result in zip(images, numbers.tolist(), found, strict=True):
        alone = image[None]
        for number in filter(None, own):
            alone = CHANGES[abs(number) - 1](alone, 0.9 if number > 0 else -0.9)
        assert (result.int() - alone[0].int()).abs().max() <= 1
    assert len({tuple(own) for own in numbers.tolist()}) > 30
    floats = step(images + 0.25, numbers)
    assert torch.equal(floats, found), "values between bytes are rounded"


def test_changes_are_drawn_as_often_as_timm_draws_them():
    numbers = RandAugment(9, 2).draw(torch.arange(6000), generator())
    counts = torch.bincount((numbers + len(NAMES)).flatten(), minlength=2 * len(NAMES) + 1)
    assert counts[len(NAMES)] / 12_000 == pytest.approx(0.5, abs=0.02)
    each = counts + counts.flip(0)
    assert each[len(NAMES) + 1 :] / 12_000 == pytest.approx(1 / 30, abs=0.007)
    two_ways = counts[: len(TWO_WAYS)] / each[: len(TWO_WAYS)]
    assert two_ways == pytest.approx(0.5, abs=0.12)
    assert counts[len(TWO_WAYS) : len(NAMES)].sum() == 0, "one way is the only one of the others"


def epoch(data, seed, number, batch_size):
    batches = data.train_batches(batch_size=batch_size, seed=seed, on=CPU)
    batches.set_epoch(number)
    return torch.cat([images for images, _ in batches])


@pytest.mark.parametrize("source", ["fashion-mnist", "folder"])
def test_an_epoch_is_a_function_of_seed_and_epoch(source, image_folder):
    chosen = {"source": "fashion-mnist", "num_train": 60}
    if source == "folder":
        chosen = {"source": f"folder:{image_folder}", "image_size": 16}
    plain = open_data(DataConfig(**chosen))
    data = open_data(DataConfig(**chosen, augment={"randaugment": "rand-m9-n2"}))
    assert data.fingerprint == plain.fingerprint
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    first = epoch(data, 0, 1, 16)
    assert torch.equal(first, epoch(data, 0, 1, 16))
    assert torch.equal(first, epoch(data, 0, 1, 25)), "whatever the batches"
    assert not torch.equal(first, epoch(data, 0, 2, 16))
    assert not torch.equal(first, epoch(data, 1, 1, 16))
    assert not torch.equal(first, epoch(plain, 0, 1, 16))
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2]), "global generators are left alone"


@pytest.mark.parametrize(("dtype", "source"), [(np.float32, "python:x:y"), (np.uint8, "digits")])
def test_what_has_no_bytes_is_refused(dtype, source):
    part = ArrayPart(np.ones((4, 1, 8, 8), dtype), np.arange(4) % 2)
    config = DataConfig(source=source, augment={"randaugment": "rand-m9-n2"})
    with pytest.raises(
        DataError, match=r"data\.augment\.randaugment: expected images of bytes, .* (16 levels|float32)"
    ):
        ArrayData(config, lambda _: part, class_names=("a", "b"), num_test=0)
