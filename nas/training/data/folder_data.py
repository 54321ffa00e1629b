"""A folder of images, opened: its parts are decoded once and mapped, or decoded whenever they are used.

Every file of every part is decoded before the first run, so that all that cannot be used are named at once.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar, overload

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.augment import augmentation_of
from nas.training.data.decode import Recipe
from nas.training.data.decoded import MARGIN, Kept, chunks_of
from nas.training.data.decoding import BrokenFiles, decode_chunks, refuse
from nas.training.data.division import FilePart, FolderList, list_folder
from nas.training.data.folder import shown
from nas.training.data.images import ImageData
from nas.training.data.levels import levels_in
from nas.training.data.places import decoded_folder, remember
from nas.training.data.progress import Progress, Tell
from nas.training.data.source import DataSource
from nas.training.summary import Part

Opened = TypeVar("Opened")

_verified: set[str] = set()
"""Digests of the parts that this process has decoded without fault, and of how."""


class _Names(Sequence[str]):
    """Of the files of a part; put together when somebody asks."""

    def __init__(self, part: FilePart) -> None:
        self._part = part

    def __len__(self) -> int:
        return len(self._part)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return shown(self._part.file(index))


def open_folder(config: DataConfig, tell: Tell) -> DataSource:
    """Open a folder; the first process that does decodes its images.

    Raises:
        DataError: files cannot be used; those of all parts are counted.
        NasError: the disk gets full.
    """
    listed = list_folder(config)
    mode = "L" if listed.summary.in_chans == 1 else "RGB"
    root = decoded_folder(config)
    if root is not None:
        remember(root, tell)
    levels = levels_in(listed.parts["train"], root)
    parts = {part: replace(files, levels=levels) for part, files in listed.parts.items() if len(files)}
    recipes = {part: recipe_of(config, part, listed.summary.image_size) for part in parts}
    if root is not None:
        kept = {part: Kept(root=root, part=parts[part], mode=mode, recipe=recipes[part]) for part in parts}
        if _has_room(root, sum(one.missing_bytes for one in kept.values()), tell):
            return _mapped(config, listed, kept, tell)
    _of_each_part({part: partial(_verify, files, mode, recipes[part], tell) for part, files in parts.items()})
    return ImageData(config, replace(listed.summary, no_room=root is not None), parts)


def _of_each_part(opening: Mapping[Part, Callable[[], Opened]]) -> dict[Part, Opened]:
    """What comes of each part; the broken files of all are told at once."""
    opened: dict[Part, Opened] = {}
    faults: list[str] = []
    for part, open_it in opening.items():
        try:
            opened[part] = open_it()
        except BrokenFiles as error:
            faults += error.faults
    refuse(faults)
    return opened


def recipe_of(config: DataConfig, part: Part, size: int) -> Recipe:
    """What is kept of the images of a part."""
    whole = part == "train" and augmentation_of(config).crop == "resized"
    return Recipe(kind="whole" if whole else "exact", size=size)


def _has_room(root: Path, needed: int, tell: Tell) -> bool:
    """Whether ``needed`` bytes fit on the disk of a folder that may not be there yet."""
    place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free - MARGIN
    if needed == 0 or needed <= free:
        return True
    tell(
        f"{root}: decoded images need {needed / 1e9:.1f} GB, and {max(0, free) / 1e9:.1f} GB are free: each image is "
        "decoded whenever it is used, which is slower, and a study that begins so goes on so; data.cache names another "
        "place"
    )
    return False


def _mapped(config: DataConfig, listed: FolderList, kept: Mapping[Part, Kept], tell: Tell) -> ArrayData:
    opened = _of_each_part({part: partial(one.open, tell) for part, one in kept.items()})

    def read(part: Part) -> ArrayPart:
        if part not in opened:
            raise DataError(f"{config.source}: has no {part} part")
        decoded, files = opened[part], kept[part].part
        return ArrayPart(
            decoded.images,
            files.labels,
            aspects=decoded.aspects if kept[part].recipe.kind == "whole" else None,
            names=_Names(files),
            moments=decoded.moments,
        )

    summary = listed.summary
    return ArrayData(
        config.model_copy(update={"image_size": summary.image_size, "in_chans": summary.in_chans}),
        read,
        class_names=summary.class_names,
        num_test=summary.num_test,
        fingerprint=summary.fingerprint,
        notes=summary.notes,
    )


def _verify(part: FilePart, mode: str, recipe: Recipe, tell: Tell) -> None:
    """Decode every file, once in a process."""
    key = f"{part.digest} {mode} {recipe} {part.levels}"
    if key in _verified:
        return
    progress = Progress(len(part), f"verifying {shown(part.root)}", tell)
    faults: list[str] = []
    for outcome in decode_chunks(list(chunks_of(part, mode, recipe, None))):
        faults += outcome.faults
        progress.step(outcome.count)
    refuse(faults)
    _verified.add(key)
