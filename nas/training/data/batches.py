"""Batches of images that lie on the device: gathered, augmented and standardised as whole tensors.

Shapes: N images in all, B in a batch, C channels, H × W pixels.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nas.training.data.pipeline import Pipeline
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
        pipeline: Pipeline | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        """Without a seed: in order, not augmented."""
        self.images, self.labels, self.mean, self.scale = images, labels, mean, scale
        self.batch_size, self.seed, self.names = batch_size, seed, names
        self.pipeline = pipeline or Pipeline()
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
        """Shuffled and augmented; all randomness of an epoch is drawn before it begins, on the CPU."""
        random, order = self._order(seed)
        before, after, mix = self.pipeline.before, self.pipeline.after, self.pipeline.mix
        drawn = [step.draw(order, random) for step in (*before, *after)]
        drawn += [mix.draw(order, random)] if mix else []
        split = (tensor.to(self.labels.device).tensor_split(len(self)) for tensor in (order, *drawn))
        for index, *own in zip(*split, strict=True):
            images, labels = self.images.index_select(0, index), self.labels[index]
            for step, its in zip(before, own, strict=False):
                images = step(images, its)
            images = self._channels_last(images)
            for step, its in zip(after, own[len(before) :], strict=False):
                images = step(images, its)
            yield mix(images, labels, own[-1]) if mix else (images, labels)

    def _standardised(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) * self.scale

    def _channels_last(self, images: Tensor) -> Tensor:
        """Standardised images; those that come may be overwritten."""
        B, C, H, W = images.shape
        floats = images.float().sub_(self.mean).mul_(self.scale)
        return torch.empty((B, H, W, C), device=images.device).permute(0, 3, 1, 2).copy_(floats)
