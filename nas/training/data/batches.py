"""Batches of images that lie on the device: gathered, augmented and standardised as whole tensors.

Shapes: N images in all, B in a batch, C channels, H × W pixels.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.data.source import epoch_seed, num_batches


class TensorBatches:
    """Cuts a part that lies on the device into batches, gathered in one indexing operation."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        mean: Tensor,
        scale: Tensor,
        seed: int | None = None,
        shift: int = 0,
        flip: float = 0.0,
        names: Sequence[str] | None = None,
    ) -> None:
        """Without a seed: in order, not augmented."""
        self.images, self.labels, self.mean, self.scale = images, labels, mean, scale
        self.batch_size, self.seed, self.shift, self.flip, self.names = batch_size, seed, shift, flip, names
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return num_batches(len(self.labels), self.batch_size)

    def origin(self, batch: int, position: int) -> str:
        """The image's name, or ``image N`` of the part."""
        index = torch.arange(len(self.labels)) if self.seed is None else self._order(self.seed)[1]
        number = int(index.tensor_split(len(self))[batch][position])
        return f"image {number}" if self.names is None else self.names[number]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.seed is None:
            for images, labels in zip(
                self.images.tensor_split(len(self)), self.labels.tensor_split(len(self)), strict=True
            ):
                yield self._standardised(images), labels
        else:
            yield from self._augmented(self.seed)

    def _order(self, seed: int) -> tuple[torch.Generator, Tensor]:
        """The epoch's order, and the generator from which the rest of its randomness is drawn."""
        random = torch.Generator().manual_seed(epoch_seed(seed, self.epoch))
        return random, torch.randperm(len(self.labels), generator=random)

    def _augmented(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled, shifted by up to ``shift`` pixels and flipped; randomness is drawn on the CPU."""
        N, device = len(self.labels), self.labels.device
        random, order = self._order(seed)
        down, right = torch.randint(0, 2 * self.shift + 1, (2, N), generator=random).to(device)
        flipped = (torch.rand((N, 1), generator=random) < self.flip)[:, 0].to(device)
        parts = (order.to(device), down, right, flipped)
        for index, d, r, f in zip(*(t.tensor_split(len(self)) for t in parts), strict=True):
            images = self._flipped(self._shifted(self.images[index], d, r), f)
            yield self._standardised(images, channels_last=True), self.labels[index]

    def _shifted(self, images: Tensor, down: Tensor, right: Tensor) -> Tensor:
        """Each image (C, H, W) cut out of a border of zeros at its own place (B,)."""
        if self.shift == 0:
            return images
        B, _, H, W = images.shape
        windows = F.pad(images, (self.shift,) * 4).unfold(2, H, 1).unfold(3, W, 1)  # a view: whole rows are copied
        return windows[torch.arange(B, device=images.device), :, down, right]

    def _flipped(self, images: Tensor, flipped: Tensor) -> Tensor:
        return torch.where(flipped[:, None, None, None], images.flip(3), images) if self.flip else images

    def _standardised(self, images: Tensor, *, channels_last: bool = False) -> Tensor:
        if not channels_last:
            return (images.float() - self.mean) * self.scale
        B, C, H, W = images.shape
        floats = torch.empty((B, H, W, C), device=images.device).permute(0, 3, 1, 2).copy_(images)
        return floats.sub_(self.mean).mul_(self.scale)
