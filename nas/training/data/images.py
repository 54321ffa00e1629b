"""Images that are decoded while they are trained on, with timm's transforms and prefetching."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from timm.data import create_transform
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.loader import PrefetchLoader, fast_collate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nas.errors import DataError
from nas.training.config import STREAMS, DataConfig
from nas.training.data.augment import CROP_SCALE, augmentation_of
from nas.training.data.decode import eval_crop
from nas.training.data.division import FilePart
from nas.training.data.folder import shown
from nas.training.data.listing import ImagePart, list_images
from nas.training.data.source import Batches, DataSource, epoch_seed, num_batches
from nas.training.data.streams import open_stream
from nas.training.data.verify import verify
from nas.training.summary import DataSummary, Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

Files = ImagePart | FilePart


def open_images(config: DataConfig) -> DataSource:
    """Open a scheme of timm, or a folder by `data.reading` 1; files of train and val are decoded once here."""
    if config.source.partition("/")[0] in STREAMS:
        return open_stream(config)
    listed = list_images(config)
    for part in ("train", "val"):
        verify(listed.parts[part])
    return ImageData(config, listed.summary, listed.parts)


def _check_augmentation(config: DataConfig) -> None:
    """Raise a `DataError` where timm's transforms cannot do to single images what is asked for."""
    chosen = augmentation_of(config)
    off = chosen.crop == "none" and not chosen.flip and not chosen.color
    if chosen.crop != "resized" and not off:
        raise DataError(
            f"{config.source}: data.augment.crop: images that are decoded while they are used take resized, or "
            f"augment: false; got {chosen.crop}"
        )
    for key in ("erase", "mixup", "cutmix"):
        if getattr(chosen, key):
            raise DataError(
                f"{config.source}: data.augment.{key}: not possible for images that are decoded while they are used; "
                f"expected 0, got {getattr(chosen, key):g}"
            )
    if config.augment.randaugment:
        raise DataError(
            f"{config.source}: data.augment.randaugment: not possible for images that are decoded while they are used; "
            f"expected none, got {config.augment.randaugment}"
        )
    if config.augment.color and config.in_chans == 1:
        raise DataError(
            f"{config.source}: data.augment.color: grey images that are decoded while they are used keep their "
            f"values; expected 0, got {config.augment.color:g}"
        )


class _Decoded(Dataset[tuple[Tensor, int]]):
    """Decodes and transforms images; an item's randomness comes with its key, whichever process serves it."""

    def __init__(self, part: Files, transform: Any, mode: str) -> None:
        self.part, self.transform, self.mode = part, transform, mode

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        position, seed = key
        image = self.part.image(position, self.mode)
        with _seeded(seed):
            return self.transform(image), int(self.part.labels[position])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """timm's transforms draw from python's and torch's global generators: lend them a seed."""
    state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        yield
    random.setstate(state)


class _Order(Sampler[list[tuple[int, int]]]):
    """Batches of (position, seed); shuffled by (seed, epoch), or in order without a seed."""

    def __init__(self, num_images: int, batch_size: int) -> None:
        self.num_images, self.batch_size = num_images, batch_size
        self.seed: int | None = None
        self.epoch = 0

    def __len__(self) -> int:
        return num_batches(self.num_images, self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, seeds = np.arange(self.num_images), np.zeros(self.num_images, np.int64)
        if self.seed is not None:
            generator = np.random.default_rng(epoch_seed(self.seed, self.epoch))
            order = generator.permutation(order)
            seeds = generator.integers(2**31, size=self.num_images)
        for batch, batch_seeds in zip(np.array_split(order, len(self)), np.array_split(seeds, len(self)), strict=True):
            yield list(zip(batch.tolist(), batch_seeds.tolist(), strict=True))


Arrays = tuple["NDArray[np.uint8]", "NDArray[np.int64]"]
"""Images (B, C, H, W) and their labels (B,)."""


def _collate(items: list[tuple[Any, int]]) -> Arrays:
    """A batch as arrays, which go through a pipe: tensors go through sockets, whose folder may be cleaned away."""
    images, labels = fast_collate(items)
    return images.numpy(), labels.numpy()


class _Tensors:
    """The batches of a loader of arrays as tensors."""

    def __init__(self, loader: "DataLoader[Any]") -> None:  # of `Arrays`: its own type is that of an image
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((torch.from_numpy(images), torch.from_numpy(labels)) for images, labels in self._loader)


class _LoaderBatches:
    """timm's prefetching loader over one part."""

    def __init__(self, loader: PrefetchLoader, order: _Order, part: Files) -> None:
        self._loader, self._order, self._part = loader, order, part

    def reseed(self, seed: int | None) -> None:
        """Begin another run; without a seed the order is fixed."""
        self._order.seed, self._order.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next iteration."""
        self._order.epoch = epoch

    def origin(self, batch: int, position: int) -> str:
        """The file of an image, or its place in the part where it has none."""
        index, _ = list(self._order)[batch][position]
        file = self._part.file(index)
        return f"image {index}" if file is None else shown(file)

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self._loader


class ImageData(DataSource):
    """Images that are decoded while they are used."""

    def __init__(self, config: DataConfig, summary: DataSummary, parts: Mapping[Part, Files]) -> None:
        _check_augmentation(config)
        super().__init__(summary)
        self._config, self._parts = config, parts
        self._open: dict[tuple[Part, int, torch.device], _LoaderBatches] = {}
        grey = self.in_chans == 1
        self._mean = (float(np.mean(IMAGENET_DEFAULT_MEAN)),) if grey else IMAGENET_DEFAULT_MEAN
        self._std = (float(np.mean(IMAGENET_DEFAULT_STD)),) if grey else IMAGENET_DEFAULT_STD

    def train_batches(self, *, batch_size: int, seed: int, on: torch.device) -> Batches:
        """Shuffled batches through timm's training transform."""
        return self._batches("train", batch_size, seed, on)

    def val_batches(self, *, batch_size: int, on: torch.device) -> Batches:
        """Validation batches through timm's evaluation transform."""
        return self._batches("val", batch_size, None, on)

    def test_batches(self, *, batch_size: int, on: torch.device) -> Batches:
        """Test batches through timm's evaluation transform; the files are verified now."""
        if "test" not in self._parts:
            raise DataError(f"{self.summary.source}: has no test part")
        if isinstance(part := self._parts["test"], ImagePart):  # files of a folder were verified when it was opened
            verify(part)
        return self._batches("test", batch_size, None, on)

    def _batches(self, part: Part, batch_size: int, seed: int | None, on: torch.device) -> Batches:
        """The batches of a part; one loader, and with it its processes, serves all runs."""
        key = (part, batch_size, on)
        if key not in self._open:
            self._open[key] = self._loader(part, batch_size, on)
        self._open[key].reseed(seed)
        return self._open[key]

    def _loader(self, part: Part, batch_size: int, on: torch.device) -> _LoaderBatches:
        config = self._config
        augmentation = augmentation_of(config)
        transform = create_transform(
            self.input_size,
            is_training=part == "train" and augmentation.crop == "resized",
            scale=CROP_SCALE,
            hflip=augmentation.flip,
            color_jitter=None if self.in_chans == 1 else augmentation.color or None,
            crop_pct=eval_crop(self.summary.image_size),
            use_prefetcher=True,
        )
        order = _Order(len(self._parts[part]), batch_size)
        loader = DataLoader(
            _Decoded(self._parts[part], transform, "L" if self.in_chans == 1 else "RGB"),
            batch_sampler=order,
            num_workers=config.workers,
            collate_fn=_collate,
            persistent_workers=config.workers > 0,
            multiprocessing_context="spawn" if config.workers else None,
            generator=torch.Generator(),  # else each epoch draws from the global one
        )
        prefetching = PrefetchLoader(
            _Tensors(loader), mean=self._mean, std=self._std, channels=self.in_chans, device=on
        )
        return _LoaderBatches(prefetching, order, self._parts[part])
