"""Image files and every other scheme of timm's `create_dataset`, with timm's transforms and prefetching.

Sources that can be indexed are decoded while they are trained on. Streams (`hfids`, `tfds`, `wds`) are
read once into memory at the size of the search, which bounds their order and makes it repeatable.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from timm.data import create_dataset, create_transform
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.loader import PrefetchLoader, fast_collate
from timm.data.readers.img_extensions import add_img_extensions, get_img_extensions
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.source import Batches, DataSource, epoch_seed, num_batches
from nas.training.summary import (
    DataSummary,
    Labels,
    Part,
    check_parts,
    digest,
    stratified_split,
    take_training,
)

add_img_extensions((".tif", ".tiff"))  # timm looks for PNG and JPEG only

DEFAULT_SIZE = 224
SMALL_SIZE = 128
"""Below this side, validation looks at the whole image instead of its central 7/8."""
CROP_SCALE = (0.35, 1.0)
"""Area of timm's random resized crop: gentler than its 8 %, because candidates train briefly."""
FLIP = 0.5
SPLITS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval", "evaluation"),
    "test": ("test", "testing"),
}
"""Names of subfolders and splits; timm's synonyms."""
STREAMS = ("hfids", "tfds", "wds")
HELD_OUT_BY_TORCHVISION = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")
"""Data sets whose second split is the official test set."""


@dataclass(frozen=True)
class ImagePart:
    """Some images of a data set of timm or torchvision."""

    dataset: Any
    index: NDArray[np.int64]
    labels: Labels
    """Of the chosen images, in the order of ``index``."""

    def file(self, position: int) -> Path | None:
        """The file of an image, where it has one."""
        samples = getattr(getattr(self.dataset, "reader", None), "samples", None)
        return None if samples is None else Path(samples[self.index[position]][0])

    def image(self, position: int, mode: str) -> Image.Image:
        """A decoded image. timm's own data set would leave its file open until it is collected."""
        index = int(self.index[position])
        if not hasattr(self.dataset, "reader"):
            return cast("Image.Image", self.dataset[index][0].convert(mode))
        with self.dataset.reader[index][0] as file, Image.open(file) as image:
            return as_seen(image, mode)

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class ImageList:
    """What a source offers, before anything is decoded."""

    summary: DataSummary
    parts: dict[Part, ImagePart]


def open_images(config: DataConfig) -> DataSource:
    """Open a folder or a scheme of timm; image files of train and val are decoded once in this process."""
    if config.source.partition("/")[0] in STREAMS:
        return _open_stream(config)
    listed = list_images(config)
    for part in ("train", "val"):
        _verify(listed.parts[part])
    return ImageData(config, listed)


def list_images(config: DataConfig) -> ImageList:
    """The images of a source and their division."""
    whole = _folders(config) if config.source.startswith("folder:") else _splits(config)
    names = _class_names(whole["train"])
    parts = _divide(config, whole)
    check_parts(config.source, len(parts["train"]), len(parts["val"]), len(names))
    in_chans, image_size = config.in_chans or 3, config.image_size or DEFAULT_SIZE
    return ImageList(
        DataSummary(
            source=config.source,
            class_names=names,
            class_counts=tuple(np.bincount(parts["train"].labels, minlength=len(names)).tolist()),
            in_chans=in_chans,
            image_size=image_size,
            num_train=len(parts["train"]),
            num_val=len(parts["val"]),
            num_test=len(parts["test"]) if "test" in parts else 0,
            fingerprint=_fingerprint(parts, in_chans, image_size),
        ),
        parts,
    )


def _folders(config: DataConfig) -> dict[Part, Any]:
    """timm data sets of a folder: its train/, val/ and test/, or one of the whole."""
    root = Path(config.source.removeprefix("folder:")).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of images")
    found = {part: next((root / n for n in names if (root / n).is_dir()), None) for part, names in SPLITS.items()}
    if found["train"] is None:
        return {"train": _folder(root)}
    train = _folder(found["train"])
    classes = train.reader.class_to_idx
    others: dict[Part, Any] = {p: _folder(f, classes) for p, f in found.items() if f is not None and p != "train"}
    return {"train": train, **others}


def _folder(root: Path, classes: dict[str, int] | None = None) -> Any:
    images = (p for p in root.rglob("*") if p.suffix.lower() in get_img_extensions(as_set=True))
    folders = {path.parent for path in images}
    if not folders:
        raise DataError(f"{root}: no images in it (looked for {', '.join(get_img_extensions())})")
    if root in folders:
        raise DataError(f"{root}: expected one folder for each class, found images beside them")
    unknown = {folder.name for folder in folders} - set(classes or {folder.name for folder in folders})
    if unknown:
        raise DataError(f"{root / min(unknown)}: a class without training images")
    return create_dataset("", root=str(root), search_split=False, class_map=classes, input_img_mode=None)


def _splits(config: DataConfig) -> dict[Part, Any]:
    """Data sets of a scheme by split."""
    name, _, root = config.source.partition(":")
    scheme, _, short = name.partition("/")
    if scheme == "torch":
        second: Part = "test" if short.lower() in HELD_OUT_BY_TORCHVISION else "val"
        return {"train": _open(config, name, root, "train"), second: _open(config, name, root, "validation")}
    found: dict[Part, Any] = {"train": _open(config, name, root, "train")}
    for part, split in (("val", "validation"), ("test", "test")):
        try:
            found[part] = _open(config, name, root, split)  # type: ignore[index]  # the two names above
        except DataError:
            continue  # the source has no such split: it is cut from the training images
    return found


def _open(config: DataConfig, name: str, root: str, split: str) -> Any:
    """timm's data set of one split, with any failure told in one line."""
    try:
        return create_dataset(name, root=root or None, split=split, input_img_mode=None)
    except ImportError as error:
        raise DataError(f"{config.source}: this source needs another package: {error}") from None
    except (RuntimeError, OSError, ValueError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise DataError(f"{config.source}: cannot be opened: {reason[0]}") from None


def _labels(dataset: Any) -> Labels:
    """The label of every image, without decoding any."""
    reader = getattr(dataset, "reader", None)
    if reader is None:
        labels = dataset.targets if hasattr(dataset, "targets") else [dataset[i][1] for i in range(len(dataset))]
    elif hasattr(reader, "samples"):
        labels = [label for _, label in reader.samples]
    else:
        labels = list(reader.iter_targets())
    return np.asarray(labels, np.int64).reshape(len(dataset), -1)[:, 0]


def _class_names(dataset: Any) -> tuple[str, ...]:
    """Names in the order of the labels."""
    classes = getattr(getattr(dataset, "reader", None), "class_to_idx", None)
    if classes:
        return tuple(str(name) for name in sorted(classes, key=classes.__getitem__))
    names = getattr(dataset, "classes", None)
    return tuple(map(str, names)) if names else tuple(map(str, range(int(_labels(dataset).max()) + 1)))


def _divide(config: DataConfig, whole: dict[Part, Any]) -> dict[Part, ImagePart]:
    """The parts: as the source divides itself, the rest cut from its training images."""
    labels = _labels(whole["train"])
    divided = len(whole) > 1
    cut = stratified_split(
        labels,
        val_fraction=0.0 if "val" in whole else config.val_fraction,
        test_fraction=0.0 if divided else config.test_fraction,
        seed=config.split_seed,
    )
    cut["train"] = take_training(cut["train"], config)
    parts = {part: ImagePart(whole["train"], index, labels[index]) for part, index in cut.items() if len(index)}
    for part in ("val", "test"):
        if part in whole:
            its_labels = _labels(whole[part])
            parts[part] = ImagePart(whole[part], np.arange(len(its_labels)), its_labels)
    nothing = ImagePart(whole["train"], np.empty(0, np.int64), np.empty(0, np.int64))
    return {"train": nothing, "val": nothing, **parts}


def _fingerprint(parts: dict[Part, ImagePart], in_chans: int, image_size: int) -> str:
    """Over labels and division, and the names and sizes of files (their pixels are too many to hash)."""
    chunks = [f"{in_chans}x{image_size}".encode()]
    for part in ("train", "val"):
        chosen = parts[part]
        chunks += [part.encode(), chosen.index.tobytes(), chosen.labels.tobytes()]
        for position in range(len(chosen)):
            if (file := chosen.file(position)) is None:
                break
            chunks.append(f"{file.parent.name}/{file.name} {file.stat().st_size}".encode())
    return digest(chunks)


_verified: dict[Path, tuple[int, int]] = {}
"""Modification time and size of the files that this process has decoded without fault."""


def _verify(part: ImagePart) -> None:
    """Decode every file that was not decoded yet; raise a `DataError` that names the first broken one."""
    files = [file for file in map(part.file, range(len(part))) if file is not None]
    with ThreadPoolExecutor(4, thread_name_prefix="verify") as pool:
        for fault in pool.map(_fault, files):
            if fault is not None:
                pool.shutdown(cancel_futures=True)
                raise DataError(fault)


def _fault(file: Path) -> str | None:
    try:
        stat = file.stat()
        key = (stat.st_mtime_ns, stat.st_size)
        if _verified.get(file) != key:
            with Image.open(file) as image:
                image.load()
                if image.mode == "F" and not np.isfinite(np.asarray(image)).all():
                    return f"{file}: holds values that are not finite"
            _verified[file] = key
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{file}: not a readable image: {' '.join(str(error).split()) or type(error).__name__}"
    return None


def as_seen(image: Image.Image, mode: str) -> Image.Image:
    """The picture as a viewer shows it: turned as its EXIF data says, 16 bits a channel scaled to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow's own conversion cuts off what is above 255
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert(mode)


class _Decoded(Dataset[tuple[Tensor, int]]):
    """Decodes and transforms images; an item's randomness comes with its key, whichever process serves it."""

    def __init__(self, part: ImagePart, transform: Any, mode: str) -> None:
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


class _LoaderBatches:
    """timm's prefetching loader over one part."""

    def __init__(self, loader: PrefetchLoader, order: _Order, part: ImagePart) -> None:
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
        return str(self._part.file(index) or f"image {index}")

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self._loader


class ImageData(DataSource):
    """Images that are decoded while they are used."""

    def __init__(self, config: DataConfig, listed: ImageList) -> None:
        super().__init__(listed.summary)
        self._config, self._parts = config, listed.parts
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
        _verify(self._parts["test"])
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
        augment = part == "train" and config.augment
        transform = create_transform(
            self.input_size,
            is_training=augment,
            scale=CROP_SCALE,
            hflip=FLIP if config.flip is None else config.flip,
            color_jitter=None if self.in_chans == 1 else 0.4,
            crop_pct=1.0 if self.summary.image_size < SMALL_SIZE else 0.875,
            use_prefetcher=True,
        )
        order = _Order(len(self._parts[part]), batch_size)
        loader = DataLoader(
            _Decoded(self._parts[part], transform, "L" if self.in_chans == 1 else "RGB"),
            batch_sampler=order,
            num_workers=config.workers,
            collate_fn=fast_collate,
            persistent_workers=config.workers > 0,
            multiprocessing_context="spawn" if config.workers else None,
            generator=torch.Generator(),  # else each epoch draws from the global one
        )
        prefetching = PrefetchLoader(loader, mean=self._mean, std=self._std, channels=self.in_chans, device=on)
        return _LoaderBatches(prefetching, order, self._parts[part])


def _open_stream(config: DataConfig) -> ArrayData:
    """Read the splits of a stream into memory."""
    found: dict[Part, Any] = {"train": _read_stream(config, "train", config.num_train)}
    for part, split in (("val", "validation"), ("test", "test")):
        try:
            found[part] = _read_stream(config, split, None)  # type: ignore[index]  # the two names above
        except DataError:
            continue  # the source has no such split
    train = found["train"]
    if "val" not in found:
        cut = stratified_split(
            train.labels,
            val_fraction=config.val_fraction,
            test_fraction=0.0 if "test" in found else config.test_fraction,
            seed=config.split_seed,
        )
        cut_parts = {part: ArrayPart(train.images[i], train.labels[i]) for part, i in cut.items() if len(i)}
        found = {**found, **cut_parts}
    classes = tuple(map(str, range(int(train.labels.max()) + 1)))
    num_test = len(found["test"].labels) if "test" in found else 0
    return ArrayData(config, found.__getitem__, class_names=classes, num_test=num_test)


def _read_stream(config: DataConfig, split: str, limit: int | None) -> ArrayPart:
    """Up to ``limit`` images (N, C, H, W) of bytes at the size of the search, and labels (N,)."""
    name, _, root = config.source.partition(":")
    dataset = _open(config, name, root, split)
    size = config.image_size or DEFAULT_SIZE
    in_chans = config.in_chans or 3
    shrink = create_transform((in_chans, size, size), crop_pct=1.0 if size < SMALL_SIZE else 0.875, use_prefetcher=True)
    images: list[Any] = []
    labels: list[int] = []
    for image, label in dataset:
        if limit is not None and len(labels) == limit:
            break
        images.append(np.asarray(shrink(image.convert("L" if in_chans == 1 else "RGB"))))
        labels.append(int(label))
    if not labels:
        raise DataError(f"{config.source}: no images in split {split!r}")
    return ArrayPart(np.stack(images), np.asarray(labels, np.int64))
