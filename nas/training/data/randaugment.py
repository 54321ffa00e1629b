"""E. D. Cubuk and others, RandAugment: Practical Automated Data Augmentation with a Reduced Search Space, NeurIPS 2020.

Changes and strengths are those of timm's ``rand-mM-nN``, the kernels are torchvision's: all images of a batch that drew
the same change go through it together. Shapes: N images in all, B in a batch, C channels, H × W pixels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

APPLIED = 0.5
"""Probability that a drawn change is made."""
GREY = [128.0]
"""What comes in from beyond the edge."""
MAX_MAGNITUDE = 10

Change = Callable[[Tensor, float], Tensor]
"""Of bytes (B, C, H, W), by a share of its largest strength; negative: in the other direction."""


def _moved(
    images: Tensor, *, angle: float = 0.0, right: float = 0.0, down: float = 0.0, x: float = 0.0, y: float = 0.0
) -> Tensor:
    """Turned counter-clockwise in degrees, shifted by shares of the sides, sheared from the corner by slopes."""
    H, W = images.shape[2:]
    moved: Tensor = F.affine(
        images,
        angle=-angle,
        translate=[right * W, down * H],
        scale=1.0,
        shear=[math.degrees(math.atan(x)), math.degrees(math.atan(y))],
        interpolation=InterpolationMode.BILINEAR,
        fill=GREY,
        center=[0.0, 0.0] if x or y else None,
    )
    return moved


def _solarized(images: Tensor, share: float) -> Tensor:
    return torch.where(images.int() >= int(256 * share), 255 - images, images)


def _brighter_darks(images: Tensor, share: float) -> Tensor:
    return torch.where(images < 128, (images.int() + int(110 * share)).clamp_max(255).to(torch.uint8), images)  # noqa: PLR2004


def _factor(share: float) -> float:
    return 0.1 + 1.8 * share


ONE_WAY: Mapping[str, Change] = {
    "AutoContrast": lambda images, _: F.autocontrast(images),
    "Equalize": lambda images, _: F.equalize(images),
    "Invert": lambda images, _: F.invert(images),
    "Posterize": lambda images, share: F.posterize(images, max(1, int(4 * share))),
    "Solarize": _solarized,
    "SolarizeAdd": _brighter_darks,
    "Color": lambda images, share: F.adjust_saturation(images, _factor(share)),
    "Contrast": lambda images, share: F.adjust_contrast(images, _factor(share)),
    "Brightness": lambda images, share: F.adjust_brightness(images, _factor(share)),
    "Sharpness": lambda images, share: F.adjust_sharpness(images, _factor(share)),
}
TWO_WAYS: Mapping[str, Change] = {
    "Rotate": lambda images, share: _moved(images, angle=30 * share),
    "ShearX": lambda images, share: _moved(images, x=0.3 * share),
    "ShearY": lambda images, share: _moved(images, y=0.3 * share),
    "TranslateXRel": lambda images, share: _moved(images, right=-0.45 * share),
    "TranslateYRel": lambda images, share: _moved(images, down=-0.45 * share),
}
"""Each way as often as the other."""
CHANGES = (*ONE_WAY.values(), *TWO_WAYS.values())


@dataclass(frozen=True)
class RandAugment:
    """Some changes of each image, drawn for it alone, all of one strength."""

    magnitude: int
    """From 0 to 10."""
    num_changes: int

    def draw(self, order: Tensor, random: torch.Generator) -> Tensor:
        """Numbers (N, changes) in ``CHANGES``, from 1; 0 is none, and what is negative goes the other way."""
        shape = (len(order), self.num_changes)
        chosen = torch.randint(len(CHANGES), shape, generator=random)
        applied, reversed_ = torch.rand((2, *shape), generator=random) < APPLIED
        drawn: Tensor = (chosen + 1) * applied * torch.where(reversed_ & (chosen >= len(ONE_WAY)), -1, 1)
        return drawn

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Bytes, of bytes or of floats from 0 to 255."""
        images = images.clone() if images.dtype == torch.uint8 else images.round().to(torch.uint8)
        for layer in numbers.cpu().unbind(1):  # one wait for a GPU, not one for each change
            for number in sorted({*layer.tolist()} - {0}):
                index = (layer == number).nonzero()[:, 0].to(images.device)
                share = math.copysign(self.magnitude / MAX_MAGNITUDE, number)
                images[index] = CHANGES[abs(number) - 1](images[index], share)
        return images
