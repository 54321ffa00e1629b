"""Where training images are cut and whether they are mirrored: each image by itself, whole batches at once.

Shapes: N images in all, B in a batch, C channels, H × W pixels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.data.augment import CROP_RATIO, CROP_SCALE
from nas.training.data.rectangles import draw_rectangles, place_rectangles


@dataclass(frozen=True)
class Shift:
    """Cuts each image out of a border of zeros."""

    pixels: int

    def draw(self, order: Tensor, random: torch.Generator) -> Tensor:
        """How far down and right (N, 2) the cut begins."""
        return torch.randint(0, 2 * self.pixels + 1, (2, len(order)), generator=random).T

    def __call__(self, images: Tensor, places: Tensor) -> Tensor:
        """Images of the same size."""
        if self.pixels == 0:
            return images
        B, C, H, W = images.shape
        padded = F.pad(images, (self.pixels,) * 4).contiguous()
        high, wide = padded.shape[2:]
        planes = torch.arange(B * C, device=images.device).view(B, C, 1) * high + places[:, :1, None]
        starts = (planes + torch.arange(H, device=images.device)) * wide + places[:, 1:, None]
        rows = padded.as_strided((padded.numel() - W + 1, W), (1, 1))  # one that begins at each pixel: a view
        return rows.index_select(0, starts.flatten()).view(images.shape)


@dataclass(frozen=True, eq=False)
class ResizedCrop:
    """Cuts a rectangle out of each image and resizes it, as torchvision's RandomResizedCrop does."""

    side: int
    aspects: Tensor | None
    """Width over height (N,) of the pictures that the squares in memory were made of; None: they were squares."""

    def draw(self, order: Tensor, random: torch.Generator) -> Tensor:
        """The affine maps (N, 2, 3) from the image that is wanted to the one in memory."""
        aspects = torch.ones(len(order)) if self.aspects is None else self.aspects[order]
        width, height, fits = draw_rectangles(random, aspects, area=CROP_SCALE, ratio=CROP_RATIO)
        left, top = place_rectangles(random, width, height)
        narrow, wide = CROP_RATIO
        middle = (wide / aspects).clamp_max(1), (aspects / narrow).clamp_max(1)  # what lies within the ratio
        width, height = torch.where(fits, width, middle[0]), torch.where(fits, height, middle[1])
        left, top = torch.where(fits, left, (1 - width) / 2), torch.where(fits, top, (1 - height) / 2)
        zero = torch.zeros_like(width)
        rows = ((width, zero, 2 * left + width - 1), (zero, height, 2 * top + height - 1))
        return torch.stack([torch.stack(row, 1) for row in rows], 1)

    def __call__(self, images: Tensor, maps: Tensor) -> Tensor:
        """Floats (B, C, side, side)."""
        grid = F.affine_grid(maps, [*images.shape[:2], self.side, self.side], align_corners=False)
        padding = "border"
        if images.device.type not in ("cpu", "cuda"):  # Apple's has none before torch 2.13 (pytorch issue 125098)
            H, W = images.shape[2:]
            edge = torch.tensor((1 - 1 / W, 1 - 1 / H), device=grid.device)  # the middle of the outermost pixels
            grid, padding = grid.clamp(-edge, edge), "zeros"
        return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode=padding, align_corners=False)


@dataclass(frozen=True)
class Flip:
    """Mirrors left and right."""

    probability: float

    def draw(self, order: Tensor, random: torch.Generator) -> Tensor:
        """Whether each image (N,) is mirrored."""
        return (torch.rand((len(order), 1), generator=random) < self.probability)[:, 0]

    def __call__(self, images: Tensor, flipped: Tensor) -> Tensor:
        """The images, some of them mirrored."""
        both = torch.cat((images, images.flip(3)))
        return both.index_select(0, torch.arange(len(images), device=images.device) + len(images) * flipped)
