"""Images that fit into memory: held once as tensors.

Shapes: N images in all, B in a batch, C channels, H × W pixels.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data.augment import augmentation_of
from nas.training.data.batches import TensorBatches
from nas.training.data.pipeline import pipeline_of
from nas.training.data.source import DataSource
from nas.training.summary import DataSummary, Labels, Part, check_parts, digest

AT_ONCE = 64 * 2**20
"""Floats whose moments are taken in one piece; of bytes, which are few in the sets that are made here, a quarter."""
EVAL_BATCH = 256
"""Validation batch, where the training batch is smaller."""


@dataclass(frozen=True)
class ArrayPart:
    """Images (N, C, H, W), bytes or floats of any range, and labels (N,)."""

    images: NDArray[Any]
    labels: Labels
    aspects: NDArray[np.float32] | None = None
    """Width over height (N,) of the pictures before they were pressed into squares; None: nothing was."""
    names: Sequence[str] | None = None
    """What a message calls the images: their files."""
    moments: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """Mean and standard deviation of each channel, where they are known."""


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and standard deviation (C,) of images (N, C, H, W); large sets go piece by piece."""
    if images.numel() <= (AT_ONCE if images.is_floating_point() else AT_ONCE // 4):
        values = images.contiguous().double()
        mean, deviation = values.mean((0, 2, 3)), values.std((0, 2, 3))
    else:
        N, C, H, W = images.shape
        pieces = torch.split(images, max(1, AT_ONCE // (64 * C * H * W)))
        room = torch.empty(pieces[0].shape, dtype=torch.float64)  # one for all: freed pieces leave gaps in memory
        doubles = (room[: len(piece)].copy_(piece) for piece in pieces)
        mean = torch.stack([piece.sum((0, 2, 3)) for piece in doubles]).sum(0) / (N * H * W)
        around = mean[:, None, None]
        doubles = (room[: len(piece)].copy_(piece) for piece in pieces)
        squares = torch.stack([piece.sub_(around).square_().sum((0, 2, 3)) for piece in doubles]).sum(0)
        deviation = (squares / (N * H * W - 1)).sqrt()
    return mean, deviation


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
        notes: tuple[str, ...] = (),
    ) -> None:
        """``fingerprint``: where what is in the parts is known without reading all of it."""
        self._source, self._read = config.source, read
        parts = {part: self._checked(part, len(class_names)) for part in ("train", "val")}
        train, val = parts["train"], parts["val"]
        check_parts(config.source, len(train.labels), len(val.labels), len(class_names))
        self._in_chans = config.in_chans or train.images.shape[1]
        self._image_size = config.image_size or train.images.shape[2]
        augmentation = augmentation_of(config)
        if augmentation.randaugment and (train.images.dtype != np.uint8 or config.kind == "digits"):
            held = "16 levels" if config.kind == "digits" else train.images.dtype
            raise DataError(
                f"{config.source}: data.augment.randaugment: expected images of bytes, this source has {held}"
            )
        self._pipeline = pipeline_of(
            augmentation,
            side=self._image_size,
            num_classes=len(class_names),
            aspects=None if train.aspects is None else torch.from_numpy(train.aspects),
        )
        self._parts: dict[Part, tuple[Tensor, Tensor]] = {
            "train": self._as_tensors(train, resize=augmentation.crop != "resized"),
            "val": self._as_tensors(val),
        }
        self._names = {part: arrays.names for part, arrays in parts.items()}
        mean, deviation = map(torch.as_tensor, train.moments or moments(self._parts["train"][0]))
        self._mean, self._scale = mean.float(), (1 / deviation.clamp_min(1e-6)).float()
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
                notes=notes,
            )
        )

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """As they are in memory, not augmented."""
        images, labels = self._parts["train"]
        chosen = np.random.default_rng(0).permutation(len(labels))[:count]
        index = torch.from_numpy(np.sort(chosen))
        return images[index].float(), labels[index]

    def train_batches(self, *, batch_size: int, seed: int, on: torch.device) -> TensorBatches:
        """Shuffled and augmented batches."""
        images, labels = self._on("train", on)
        return self._batches(
            images,
            labels,
            batch_size=batch_size,
            seed=seed,
            pipeline=self._pipeline,
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

    def _as_tensors(self, part: ArrayPart, *, resize: bool = True) -> tuple[Tensor, Tensor]:
        """Images in the channels of the search, and in its size unless a crop gives them that; and labels."""
        images = _as_tensor(part.images)
        if images.shape[1] != self._in_chans:
            images = images[:, :1].expand(-1, self._in_chans, -1, -1)
        if resize and images.shape[2] != self._image_size:
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
