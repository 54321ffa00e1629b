"""Crops of whole batches beside the same, image by image and pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from nas.training.data.augment import CROP_RATIO, CROP_SCALE
from nas.training.data.crop import Flip, ResizedCrop, Shift

SIDE = 6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rectangle(affine):
    """Left, upper edge, width and height in shares of the image, from a map (2, 3)."""
    width, height = affine[0, 0], affine[1, 1]
    return (affine[0, 2] + 1 - width) / 2, (affine[1, 2] + 1 - height) / 2, width, height


def sampled(image, left, top, width, height):
    """Bilinear, at the middles of the wanted pixels; beyond the edge the edge goes on."""
    C, H, W = image.shape
    found = np.empty((C, SIDE, SIDE))
    for row in range(SIDE):
        for column in range(SIDE):
            y = min(max((top + (row + 0.5) / SIDE * height) * H - 0.5, 0), H - 1)
            x = min(max((left + (column + 0.5) / SIDE * width) * W - 0.5, 0), W - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, H - 1), min(x0 + 1, W - 1)
            upper = image[:, y0, x0] * (1 - x + x0) + image[:, y0, x1] * (x - x0)
            lower = image[:, y1, x0] * (1 - x + x0) + image[:, y1, x1] * (x - x0)
            found[:, row, column] = upper * (1 - y + y0) + lower * (y - y0)
    return found


@pytest.mark.parametrize("aspects", [None, torch.linspace(0.4, 2.5, 12)])
def test_a_resized_crop_is_sampled_as_by_hand(aspects):
    images = torch.randint(256, (12, 3, 11, 11), generator=generator(), dtype=torch.uint8)
    crop = ResizedCrop(SIDE, aspects)
    maps = crop.draw(torch.arange(12), generator())
    found = crop(images, maps)
    for image, affine, result in zip(images.double().numpy(), maps.double().numpy(), found, strict=True):
        np.testing.assert_allclose(result.numpy(), sampled(image, *rectangle(affine)), atol=0.01)


def test_rectangles_have_the_area_and_the_shape_in_the_geometry_of_the_picture():
    random = np.random.default_rng(0)
    aspects = torch.from_numpy(np.exp(random.uniform(-0.6, 0.6, 3000)).astype(np.float32))
    order = torch.from_numpy(random.permutation(3000))
    maps = ResizedCrop(SIDE, aspects).draw(order, generator()).double()
    left, top, width, height = rectangle(maps.permute(1, 2, 0))
    assert min(left.min(), top.min(), 1 - (left + width).max(), 1 - (top + height).max()) > -1e-6
    area, ratio = width * height, width / height * aspects[order]
    assert CROP_SCALE[0] - 1e-6 < area.min() < 0.36
    assert 0.9 < area.max() <= CROP_SCALE[1] + 1e-6
    assert CROP_RATIO[0] - 1e-5 < ratio.min() < 0.76
    assert 1.31 < ratio.max() < CROP_RATIO[1] + 1e-5
    assert area[:100].unique().numel() == 100, "each image has its own"


def test_where_no_rectangle_lies_within_the_middle_is_taken():
    maps = ResizedCrop(SIDE, torch.tensor([20.0, 0.05])).draw(torch.arange(2), generator())
    wide, narrow = (rectangle(affine) for affine in maps.double().numpy())
    np.testing.assert_allclose(wide, [0.5 - 1 / 30, 0, 1 / 15, 1], atol=1e-6)  # 4/3 of its height
    np.testing.assert_allclose(narrow, [0, 0.5 - 1 / 30, 1, 1 / 15], atol=1e-6)
    assert math.isclose(wide[2] * 20, 4 / 3, rel_tol=1e-6)


def test_shift_and_flip_image_by_image():
    images = torch.randint(1, 256, (20, 2, 5, 5), generator=generator(), dtype=torch.uint8)
    shift, flip = Shift(2), Flip(0.5)
    places, flipped = shift.draw(torch.arange(20), generator()), flip.draw(torch.arange(20), generator(1))
    found = flip(shift(images, places), flipped)
    for image, (down, right), turned, result in zip(images, places.tolist(), flipped, found, strict=True):
        expected = torch.zeros(2, 9, 9, dtype=torch.uint8)
        expected[:, 2:7, 2:7] = image
        expected = expected[:, down : down + 5, right : right + 5]
        assert torch.equal(result, expected.flip(2) if turned else expected)
    assert len({tuple(place) for place in places.tolist()}) > 10
    assert 0 < flipped.sum() < 20
