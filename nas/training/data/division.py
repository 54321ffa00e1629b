"""The images of a folder divided into parts: by their names alone, so that a file that comes moves few others.

In its class an image's place is decided by a hash of its name. Another class moves nothing, and a file more or less
in the same class moves at most the one at each boundary.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from nas.training.config import DataConfig
from nas.training.data.decode import NO_LEVELS, Levels, picture
from nas.training.data.folder import ClassFolders, ImageFile, notes, shown, walk_folder
from nas.training.summary import (
    DataSummary,
    Labels,
    Part,
    check_parts,
    digest,
    held_out,
    take_training,
    training_order,
)

DEFAULT_SIZE = 224
"""Side of an image where the study file gives none."""


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """The files of a part, in the order in which they are used."""

    root: Path
    files: tuple[ImageFile, ...]
    labels: Labels
    levels: Levels = NO_LEVELS
    """What values beyond a byte are scaled by."""

    def file(self, position: int) -> Path:
        """Where an image lies."""
        return self.root / self.files[position].name

    def image(self, position: int, mode: str) -> Image.Image:
        """A decoded image."""
        return picture(self.file(position), mode, self.levels)

    @cached_property
    def digest(self) -> str:
        """Over place, names, sizes and times of the files: other ones are other images."""
        files = (os.fsencode(f"{file.name} {file.size} {file.mtime_ns}") for file in self.files)
        return digest([os.fsencode(self.root), *files])

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True, kw_only=True)
class FolderList:
    """What a folder offers, before anything is decoded."""

    summary: DataSummary
    parts: Mapping[Part, FilePart]
    divided: bool
    """Whether the folder comes in parts."""


def list_folder(config: DataConfig) -> FolderList:
    """Walk a folder and divide it.

    Raises:
        DataError: it is no data set.
    """
    walked = walk_folder(Path(config.source.removeprefix("folder:")).expanduser().absolute())
    parts = divide(config, held_out(walked, config))
    names = tuple(walked["train"].classes)
    train, val, test = (parts[part] for part in ("train", "val", "test"))
    check_parts(config.source, len(train), len(val), len(names))
    in_chans, image_size = config.in_chans or 3, config.image_size or DEFAULT_SIZE
    summary = DataSummary(
        source=config.source,
        class_names=tuple(map(shown, names)),
        class_counts=tuple(np.bincount(train.labels, minlength=len(names)).tolist()),
        in_chans=in_chans,
        image_size=image_size,
        num_train=len(train),
        num_val=len(val),
        num_test=len(test),
        fingerprint=_fingerprint(parts, in_chans, image_size),
        notes=(*notes(walked), *_note_of_validation(walked, config)),
    )
    return FolderList(summary=summary, parts=parts, divided=len(walked) > 1)


def _note_of_validation(walked: Mapping[Part, ClassFolders], config: DataConfig) -> tuple[str, ...]:
    if "test" in walked or "test" not in held_out(walked, config):
        return ()
    place = shown(walked["val"].root)
    return (f"{place} is what no search sees, and validation is cut from the others; else set data.val_is: val",)


def divide(config: DataConfig, found: Mapping[Part, ClassFolders]) -> dict[Part, FilePart]:
    """The parts as the folder has them, the rest cut from its training images."""
    label_of = {name: label for label, name in enumerate(found["train"].classes)}
    val_fraction = 0.0 if "val" in found else config.val_fraction
    test_fraction = 0.0 if len(found) > 1 else config.test_fraction
    cut: dict[Part, list[Sequence[ImageFile]]] = {"train": [], "val": [], "test": []}
    for files in found["train"].classes.values():
        members = sorted(files, key=lambda file: _draw(file, config.split_seed))
        num_val = min(round(len(members) * val_fraction), len(members) - 1)
        num_test = min(round(len(members) * test_fraction), len(members) - 1 - num_val)
        cut["val"].append(members[:num_val])
        cut["test"].append(members[num_val : num_val + num_test])
        cut["train"].append(members[num_val + num_test :])
    for part in ("val", "test"):
        if part in found:
            cut[part] = list(found[part].classes.values())
    cut = {part: [[file for file in group if file.usable] for group in groups] for part, groups in cut.items()}
    root = found["train"].root
    parts = {part: _part(found[part].root if part in found else root, groups, label_of) for part, groups in cut.items()}
    order = take_training(training_order([len(group) for group in cut["train"]], config.balanced), config)
    everything = [file for group in cut["train"] for file in group]
    files = tuple(everything[i] for i in order)
    parts["train"] = replace(parts["train"], files=files, labels=_labels(files, label_of))
    return parts


def _draw(file: ImageFile, seed: int) -> bytes:
    chunks = (str(seed).encode(), os.fsencode(file.class_name), os.fsencode(file.inner))
    return hashlib.sha256(b"\0".join(chunks)).digest()


def _part(root: Path, groups: Sequence[Sequence[ImageFile]], label_of: Mapping[str, int]) -> FilePart:
    """By class and name."""
    members = (file for group in groups for file in group)
    files = tuple(sorted(members, key=lambda file: (label_of[file.class_name], os.fsencode(file.inner))))
    return FilePart(root=root, files=files, labels=_labels(files, label_of))


def _labels(files: Sequence[ImageFile], label_of: Mapping[str, int]) -> Labels:
    return np.asarray([label_of[file.class_name] for file in files], np.int64)


def _fingerprint(parts: Mapping[Part, FilePart], in_chans: int, image_size: int) -> str:
    """Over names, sizes in bytes and labels of what is trained and validated on; the test part may change."""
    chunks = [f"{in_chans}x{image_size}".encode()]
    for name in ("train", "val"):
        part = parts[name]
        chunks.append(name.encode())
        for file, label in zip(part.files, part.labels.tolist(), strict=True):
            chunks.append(os.fsencode(file.name) + f" {file.size} {label}".encode())
    return digest(chunks)
