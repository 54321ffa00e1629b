"""Random rectangles, one an image, as shares of its sides."""

import math

import torch
from torch import Tensor

TRIES = 10
"""Rectangles that are drawn for an image until one lies within it, as torchvision does."""

Bounds = tuple[float, float]


def draw_rectangles(
    random: torch.Generator, aspects: Tensor, *, area: Bounds, ratio: Bounds
) -> tuple[Tensor, Tensor, Tensor]:
    """Widths and heights (N,) of rectangles of this area and ratio of sides, and whether they lie within the image.

    Args:
        aspects: width over height (N,) of the images; the ratio is one of pixels.
        area: of the image, bounds of a uniform distribution.
        ratio: width over height, bounds of a distribution that is uniform in its logarithm.
    """
    first, second = torch.rand((2, TRIES, len(aspects)), generator=random)
    areas = area[0] + (area[1] - area[0]) * first
    ratios = torch.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * second) / aspects
    widths, heights = (areas * ratios).sqrt(), (areas / ratios).sqrt()
    within = (widths <= 1) & (heights <= 1)
    chosen = within.int().argmax(0, keepdim=True)  # the first
    width, height, fits = (t.gather(0, chosen)[0] for t in (widths, heights, within))
    return width, height, fits


def place_rectangles(random: torch.Generator, widths: Tensor, heights: Tensor) -> tuple[Tensor, Tensor]:
    """Left and upper edges (N,) of rectangles that may lie anywhere within their images."""
    across, down = torch.rand((2, len(widths)), generator=random)
    return across * (1 - widths), down * (1 - heights)


def inside(boxes: Tensor, side: int) -> Tensor:
    """Whether pixels (B, 1, side, side) lie in boxes (B, 4): left, top, right and lower edges in pixels."""
    along = torch.arange(side, device=boxes.device)
    left, top, right, bottom = (edge[:, None] for edge in boxes.unbind(1))
    rows, columns = (along >= top) & (along < bottom), (along >= left) & (along < right)
    return (rows[:, :, None] & columns[:, None, :])[:, None]
