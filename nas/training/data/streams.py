"""Streams (`hfids`, `tfds`, `wds`): what a search needs of them is read into memory at its size.

They are read twice, for their labels and for the images that were chosen, in the order in which they come.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timm.data import create_transform

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.decode import eval_crop
from nas.training.data.division import DEFAULT_SIZE
from nas.training.data.splits import open_split
from nas.training.summary import Labels, Part, held_out, stratified_split, take_training

Index = NDArray[np.int64]


@dataclass(frozen=True)
class _Split:
    """One split of a stream, by its name there."""

    name: str
    labels: Labels


def open_stream(config: DataConfig) -> ArrayData:
    """Choose the images of each part by the labels of all, then read those; test images when they are asked for."""
    found: dict[Part, _Split] = {"train": _labelled(config, "train")}
    for part, split in (("val", "validation"), ("test", "test")):
        try:
            found[part] = _labelled(config, split)  # type: ignore[index]  # the two names above
        except DataError:
            continue  # the source has no such split
    found = held_out(found, config)
    train = found["train"]
    chosen = _chosen(config, found)
    own = {part: np.arange(len(split.labels)) for part, split in found.items() if part != "train"}
    images = _images(config, train.name, chosen)
    parts = {part: ArrayPart(images[part], train.labels[index]) for part, index in chosen.items()}

    def read(part: Part) -> ArrayPart:
        if part in own:
            split = found[part]
            return ArrayPart(_images(config, split.name, {part: own[part]})[part], split.labels)
        return parts[part]

    classes = tuple(map(str, range(int(train.labels.max()) + 1)))
    num_test = len(own["test"]) if "test" in own else len(chosen.get("test", ()))
    return ArrayData(config, read, class_names=classes, num_test=num_test)


def _chosen(config: DataConfig, found: Mapping[Part, _Split]) -> dict[Part, Index]:
    """By part, where in the training split its images are."""
    labels = found["train"].labels
    if config.reading == 1 and "val" in found:
        return {"train": np.arange(len(labels))}
    cut = stratified_split(
        labels,
        val_fraction=0.0 if "val" in found else config.val_fraction,
        test_fraction=0.0 if len(found) > 1 else config.test_fraction,
        seed=config.split_seed,
        balanced=config.balanced or config.reading == 1,
    )
    if config.reading > 1:
        cut["train"] = take_training(cut["train"], config)
    return {part: index for part, index in cut.items() if len(index)}


def _labelled(config: DataConfig, name: str) -> _Split:
    """The labels of a split; of what an older version began, those of its beginning."""
    labels = np.asarray([label for _, label in _open(config, name)], np.int64)
    if not len(labels):
        raise DataError(f"{config.source}: no images in split {name!r}")
    beginning = config.reading == 1 and name == "train"
    return _Split(name, labels[: config.num_train] if beginning else labels)


def _open(config: DataConfig, split: str) -> Any:
    name, _, root = config.source.partition(":")
    return open_split(config, name, root, split)


def _images(config: DataConfig, split: str, wanted: Mapping[Part, Index]) -> dict[Part, NDArray[np.uint8]]:
    """Images (N, C, H, W) of some places of a split, at the size of the search."""
    size, in_chans = config.image_size or DEFAULT_SIZE, config.in_chans or 3
    shrink = create_transform((in_chans, size, size), crop_pct=eval_crop(size), use_prefetcher=True)
    images = {part: np.empty((len(index), in_chans, size, size), np.uint8) for part, index in wanted.items()}
    row = {int(place): images[part][i] for part, index in wanted.items() for i, place in enumerate(index)}
    for place, (image, _) in enumerate(_open(config, split)):
        if place in row:
            row[place][:] = np.asarray(shrink(image.convert("L" if in_chans == 1 else "RGB")))
    return images
