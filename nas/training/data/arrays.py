"""Images that fit into memory: held once as tensors, batched and augmented as whole tensors.

Shapes: N images in all, B in a batch, C channels, H × W pixels.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data.source import DataSource, epoch_seed, num_batches
from nas.training.summary import DataSummary, Labels, Part, check_parts, digest

SMALLEST_SHIFTED = 16
"""Side from which images are shifted: at 8 pixels one pixel is a stroke, and brief training gets worse."""
AT_ONCE = 64 * 2**20
"""Values whose moments are taken in one piece."""
EVAL_BATCH = 256
"""Validation batch, where the training batch is smaller."""


@dataclass(frozen=True)
class ArrayPart:
    """Images (N, C, H, W), bytes or floats of any range, and labels (N,)."""

    images: NDArray[Any]
    labels: Labels
    aspects: NDArray[np.float32] | None = None
    """Width over height (N,) of the pictures that these squares were made of."""
    names: Sequence[str] | None = None
    """What a message calls the images."""


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


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and 1 / standard deviation (C,) of images (N, C, H, W); large sets go piece by piece."""
    if images.numel() <= AT_ONCE:
        values = images.contiguous().double()
        mean, deviation = values.mean((0, 2, 3)), values.std((0, 2, 3))
    else:
        N, C, H, W = images.shape
        pieces = torch.split(images, max(1, AT_ONCE // (8 * C * H * W)))
        mean = torch.stack([piece.double().sum((0, 2, 3)) for piece in pieces]).sum(0) / (N * H * W)
        around = mean[:, None, None]
        squares = torch.stack([(piece.double() - around).square_().sum((0, 2, 3)) for piece in pieces]).sum(0)
        deviation = (squares / (N * H * W - 1)).sqrt()
    return mean.float(), (1 / deviation.clamp_min(1e-6)).float()


def _as_tensor(array: NDArray[Any]) -> Tensor:
    """The array itself: one that is mapped from a file is only read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


class ArrayData(DataSource):
    """A data set in memory. ``read`` gives a part; train and val are read once, test when asked for."""

    def __init__(
        self,
        config: DataConfig,
        read: Callable[[Part], ArrayPart],
        *,
        class_names: tuple[str, ...],
        num_test: int,
        fingerprint: str | None = None,
    ) -> None:
        """``fingerprint``: where what is in the parts is known without reading all of it."""
        self._source, self._read = config.source, read
        parts = {part: self._checked(part, len(class_names)) for part in ("train", "val")}
        train, val = parts["train"], parts["val"]
        check_parts(config.source, len(train.labels), len(val.labels), len(class_names))
        self._in_chans = config.in_chans or train.images.shape[1]
        self._image_size = config.image_size or train.images.shape[2]
        self._shift = self._image_size // 8 if config.augment and self._image_size >= SMALLEST_SHIFTED else 0
        self._flip = (config.flip or 0.0) if config.augment else 0.0
        self._parts = {part: self._as_tensors(arrays) for part, arrays in parts.items()}
        self._names = {part: arrays.names for part, arrays in parts.items()}
        self._mean, self._scale = moments(self._parts["train"][0])
        self._placed: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}
        if fingerprint is None:
            content = (_bytes_of(array) for part in parts.values() for array in (part.images, part.labels))
            fingerprint = digest((f"{self._in_chans}x{self._image_size}".encode(), *content))
        super().__init__(
            DataSummary(
                source=config.source,
                class_names=class_names,
                class_counts=tuple(np.bincount(train.labels, minlength=len(class_names)).tolist()),
                in_chans=self._in_chans,
                image_size=self._image_size,
                num_train=len(train.labels),
                num_val=len(val.labels),
                num_test=num_test,
                fingerprint=fingerprint,
            )
        )

    def train_batches(self, *, batch_size: int, seed: int, on: torch.device) -> TensorBatches:
        """Shuffled, shifted and flipped batches."""
        images, labels = self._on("train", on)
        return self._batches(
            images,
            labels,
            batch_size=batch_size,
            seed=seed,
            shift=self._shift,
            flip=self._flip,
            names=self._names["train"],
        )

    def val_batches(self, *, batch_size: int, on: torch.device) -> TensorBatches:
        """The validation part in order."""
        images, labels = self._on("val", on)
        return self._batches(images, labels, batch_size=max(batch_size, EVAL_BATCH), names=self._names["val"])

    def test_batches(self, *, batch_size: int, on: torch.device) -> TensorBatches:
        """The test part in order, read now."""
        images, labels = self._as_tensors(self._checked("test", self.num_classes))
        return self._batches(images.to(on), labels.to(on), batch_size=max(batch_size, EVAL_BATCH))

    def _batches(self, images: Tensor, labels: Tensor, **more: Any) -> TensorBatches:
        mean, scale = (t.to(images.device)[:, None, None] for t in (self._mean, self._scale))
        return TensorBatches(images, labels, mean=mean, scale=scale, **more)

    def _on(self, part: Part, device: torch.device) -> tuple[Tensor, Tensor]:
        """A part on a device; moved there once."""
        if (part, device) not in self._placed:
            images, labels = self._parts[part]
            self._placed[part, device] = (images.to(device), labels.to(device))
        return self._placed[part, device]

    def _as_tensors(self, part: ArrayPart) -> tuple[Tensor, Tensor]:
        images = _as_tensor(part.images)
        if images.shape[1] != self._in_chans:
            images = images[:, :1].expand(-1, self._in_chans, -1, -1)
        if images.shape[2] != self._image_size:
            size = (self._image_size, self._image_size)
            images = F.interpolate(images.float(), size=size, mode="bilinear", antialias=True)
        return images, _as_tensor(part.labels)

    def _checked(self, part: Part, num_classes: int) -> ArrayPart:
        """Read a part; refuse values that no network can be blamed for."""
        arrays = self._read(part)
        where = f"{self._source}: {part} part"
        if arrays.images.dtype.kind == "f":
            finite = np.isfinite(arrays.images).all(axis=(1, 2, 3))
            if not finite.all():
                raise DataError(f"{where}: image {int(np.argmin(finite))} holds values that are not finite")
        wrong = (arrays.labels < 0) | (arrays.labels >= num_classes)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise DataError(
                f"{where}: label {arrays.labels[at]} of image {at}, expected one from 0 to {num_classes - 1}"
            )
        return arrays
