"""What happens to the values of training images: colours and erased rectangles, each image by itself.

Shapes: N images in all, B in a batch, C channels, H × W pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nas.training.data.rectangles import draw_rectangles, inside, place_rectangles

WHITE = 255.0
GREY = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in grey: ITU-R BT.601, as torchvision rounds them."""
ERASED_AREA = (0.02, 0.33)
ERASED_RATIO = (0.3, 3.3)


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast and, in colour, saturation, in this order, by torchvision's formulas."""

    strength: float

    def draw(self, order: Tensor, random: torch.Generator) -> Tensor:
        """The factors (N, 3)."""
        return 1 + self.strength * (2 * torch.rand((len(order), 3), generator=random) - 1)

    def __call__(self, images: Tensor, factors: Tensor) -> Tensor:
        """Floats from 0 to 255."""
        brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
        images = (images * brightness).clamp_(0, WHITE)
        images = _blend(images, _grey(images).mean((1, 2, 3), keepdim=True), contrast)
        return _blend(images, _grey(images), saturation) if images.shape[1] > 1 else images


def _grey(images: Tensor) -> Tensor:
    """(B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue)[:, None]


def _blend(images: Tensor, others: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(others.expand_as(images), images, factor).clamp_(0, WHITE)


@dataclass(frozen=True)
class Erase:
    """Z. Zhong and others, Random Erasing Data Augmentation, AAAI 2020; filled with the mean of all images."""

    probability: float
    side: int

    def draw(self, order: Tensor, random: torch.Generator) -> Tensor:
        """Boxes (N, 4) in pixels, empty where nothing is erased."""
        N = len(order)
        width, height, fits = draw_rectangles(random, torch.ones(N), area=ERASED_AREA, ratio=ERASED_RATIO)
        left, top = place_rectangles(random, width, height)
        erased = (torch.rand(N, generator=random) < self.probability) & fits
        edges = torch.stack((left, top, left + width, top + height), 1)
        return (edges * self.side).round().int() * erased[:, None]

    def __call__(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Standardised images, changed in place."""
        return images.masked_fill_(inside(boxes, self.side), 0)
