"""The steps of an augmentation in their order. Shapes: N images in all, B in a batch."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nas.training.data.augment import Augmentation
from nas.training.data.crop import Flip, ResizedCrop, Shift
from nas.training.data.jitter import ColorJitter, Erase
from nas.training.data.mix import Mix
from nas.training.data.randaugment import RandAugment


class Step(Protocol):
    """One change of images: what it draws for an epoch, and what it does with that to a batch."""

    def draw(self, order: Tensor, random: torch.Generator) -> Tensor:
        """What each image (N, …) gets, in the order of the epoch, on the CPU."""

    def __call__(self, images: Tensor, drawn: Tensor, /) -> Tensor:
        """The changed images; ``drawn`` (B, …) is theirs."""


@dataclass(frozen=True)
class Pipeline:
    """What happens to training images before and after they are standardised."""

    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    mix: Mix | None = None


def pipeline_of(augmentation: Augmentation, *, side: int, num_classes: int, aspects: Tensor | None = None) -> Pipeline:
    """The steps that give images of a side; without ``aspects`` the images in memory were always squares."""
    chosen = augmentation
    before: list[Step] = [ResizedCrop(side, aspects) if chosen.crop == "resized" else Shift(chosen.shift(side))]
    if chosen.flip:
        before.append(Flip(chosen.flip))
    if chosen.randaugment:
        before.append(RandAugment(*chosen.randaugment))
    if chosen.color:
        before.append(ColorJitter(chosen.color))
    return Pipeline(
        before=tuple(before),
        after=(Erase(chosen.erase, side),) if chosen.erase else (),
        mix=Mix(chosen.mixup, chosen.cutmix, side, num_classes) if chosen.mixup or chosen.cutmix else None,
    )
