"""Mixes images and labels of a batch.

H. Zhang and others, mixup: Beyond Empirical Risk Minimization, ICLR 2018. S. Yun and others, CutMix: Regularization
Strategy to Train Strong Classifiers with Localizable Features, ICCV 2019. Shapes: N images in all, B in a batch,
K classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.data.rectangles import inside


@dataclass(frozen=True)
class Mix:
    """Each image with its mirror image in the order of the batch, by a share of its own: timm's mode ``elem``."""

    mixup: float
    cutmix: float
    side: int
    num_classes: int

    def draw(self, order: Tensor, random: torch.Generator) -> Tensor:
        """(N, 5): the share that stays of an image, and the box that comes from the other, empty under mixup."""
        N = len(order)
        beta = np.random.default_rng(int(torch.randint(2**62, (1,), generator=random))).beta
        mixed, cut = (torch.from_numpy(beta(a, a, N)) if a > 0 else torch.ones(N) for a in (self.mixup, self.cutmix))
        chance = 0.5 if self.mixup and self.cutmix else float(self.cutmix > 0)
        is_cut = torch.rand(N, generator=random) < chance
        half = (self.side * (1 - cut).sqrt()).int() // 2
        middle = torch.randint(self.side, (2, N), generator=random)
        boxes = torch.stack((*(middle - half), *(middle + half)), 1).clamp_(0, self.side) * is_cut[:, None]
        width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
        shares = torch.where(is_cut, 1 - width * height / self.side**2, mixed)
        return torch.cat((shares[:, None], boxes), 1).float()

    def __call__(self, images: Tensor, labels: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed images, and labels as probabilities (B, K)."""
        shares, boxes = drawn[:, 0], drawn[:, 1:]
        is_cut = (boxes[:, 2:] > boxes[:, :2]).all(1)
        outside = (~inside(boxes, self.side)).float()
        kept = torch.where(is_cut[:, None, None, None], outside, shares[:, None, None, None])
        classes = F.one_hot(labels, self.num_classes).float()
        return _mixed(images, kept), _mixed(classes, shares[:, None])


def _mixed(values: Tensor, kept: Tensor) -> Tensor:
    return torch.lerp(values.flip(0), values, kept)
