"""Streams (`hfids`, `tfds`, `wds`), read once into memory at the size of the search.

That bounds their order and makes it repeatable.
"""

from typing import Any

import numpy as np
from timm.data import create_transform

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.decode import SMALL_SIZE
from nas.training.data.division import DEFAULT_SIZE
from nas.training.data.splits import open_split
from nas.training.summary import Part, held_out, stratified_split


def open_stream(config: DataConfig) -> ArrayData:
    """Read the splits of a stream into memory."""
    found: dict[Part, Any] = {"train": _read_stream(config, "train", config.num_train)}
    for part, split in (("val", "validation"), ("test", "test")):
        try:
            found[part] = _read_stream(config, split, None)  # type: ignore[index]  # the two names above
        except DataError:
            continue  # the source has no such split
    found = held_out(found, config)
    train = found["train"]
    if "val" not in found:
        cut = stratified_split(
            train.labels,
            val_fraction=config.val_fraction,
            test_fraction=0.0 if "test" in found else config.test_fraction,
            seed=config.split_seed,
            balanced=config.balanced or config.reading == 1,
        )
        cut_parts = {part: ArrayPart(train.images[i], train.labels[i]) for part, i in cut.items() if len(i)}
        found = {**found, **cut_parts}
    classes = tuple(map(str, range(int(train.labels.max()) + 1)))
    num_test = len(found["test"].labels) if "test" in found else 0
    return ArrayData(config, found.__getitem__, class_names=classes, num_test=num_test)


def _read_stream(config: DataConfig, split: str, limit: int | None) -> ArrayPart:
    """Up to ``limit`` images (N, C, H, W) of bytes at the size of the search, and labels (N,)."""
    name, _, root = config.source.partition(":")
    dataset = open_split(config, name, root, split)
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
