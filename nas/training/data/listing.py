"""What a source offers before anything is decoded: its images, their labels, their division."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas.training.config import DataConfig
from nas.training.data.division import DEFAULT_SIZE
from nas.training.data.splits import folder_splits, scheme_splits
from nas.training.summary import (
    DataSummary,
    Labels,
    Part,
    check_parts,
    digest,
    held_out,
    stratified_split,
    take_training,
)


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


def list_images(config: DataConfig) -> ImageList:
    """The images of a source and their division."""
    whole = folder_splits(config) if config.source.startswith("folder:") else scheme_splits(config)
    whole = held_out(whole, config)
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
        balanced=config.balanced or config.reading == 1,
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


def as_seen(image: Image.Image, mode: str) -> Image.Image:
    """The picture as a viewer shows it: turned as its EXIF data says, 16 bits a channel scaled to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow's own conversion cuts off what is above 255
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert(mode)
