"""Colours beside torchvision's formulas, erased rectangles beside a loop."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from nas.training.data.jitter import ColorJitter, Erase


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_torchvisions_image_by_image(channels):
    images = torch.randint(256, (16, channels, 7, 7), generator=generator(), dtype=torch.uint8)
    jitter = ColorJitter(0.8)
    factors = jitter.draw(torch.arange(16), generator())
    found = jitter(images, factors)
    for image, (brightness, contrast, saturation), result in zip(images, factors.tolist(), found, strict=True):
        expected = functional.adjust_brightness(image / 255, brightness)
        expected = functional.adjust_contrast(expected, contrast)
        if channels == 3:
            expected = functional.adjust_saturation(expected, saturation)
        torch.testing.assert_close(result / 255, expected, atol=1e-5, rtol=0)


def test_factors_reach_as_far_as_the_strength():
    factors = ColorJitter(0.4).draw(torch.arange(2000), generator())
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4
    assert factors.unique().numel() > 5900, "each image has its own"


def test_rectangles_are_erased_where_the_boxes_lie():
    erase = Erase(0.5, 24)
    boxes = erase.draw(torch.arange(500), generator())
    images = torch.rand((500, 3, 24, 24), generator=generator()) + 1
    found = erase(images.clone(), boxes)
    for image, (left, top, right, bottom), result in zip(images, boxes.tolist(), found, strict=True):
        expected = image.clone()
        expected[:, top:bottom, left:right] = 0
        assert torch.equal(result, expected)
    erased = (found[:, 0] == 0).double().mean((1, 2)).numpy()
    assert 200 < np.count_nonzero(erased) < 300
    assert 0.01 < erased[erased > 0].min() < 0.05
    assert 0.29 < erased.max() < 0.36
    width, height = (boxes[:, 2:] - boxes[:, :2]).double()[erased > 0].unbind(1)
    assert (width / height).min() < 0.5
    assert (width / height).max() > 2


def test_always_is_always():
    assert (Erase(1.0, 24).draw(torch.arange(200), generator()).sum(1) > 0).all()
