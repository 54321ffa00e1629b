"""The images of a folder, found without opening any: in one walk, and in the same order on every machine. No torch.

The folder directly under the root is the class, and what lies deeper in it belongs to it.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from nas.errors import DataError
from nas.training.summary import Part

SPLITS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval", "evaluation"),
    "test": ("test", "testing"),
}
"""Names of subfolders and splits; timm's synonyms."""
SYSTEM_NAMES = ("@eadir", "__macosx", "$recycle.bin", "thumbs.db", "desktop.ini")
"""What systems leave behind, in lower case; beside it all names that begin with a dot."""
NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that Pillow only identifies, or leaves to another program."""
BROKEN = ".broken"
"""What a user appends to the name of an image that is not to be used: it keeps its place, so that no other moves."""
MAX_NAMED = 5
"""Classes without images that are named."""

Kind = Literal["folder", "image", "broken image", "other file", "dead link", "device"]


class ImageFile(NamedTuple):
    """A file as the walk found it."""

    class_name: str
    inner: str
    """Path inside the class."""
    size: int
    """In bytes."""
    mtime_ns: int
    usable: bool = True
    """False where its name, which stands here without it, ends with ``BROKEN``."""

    @property
    def name(self) -> str:
        """Path inside the part."""
        return f"{self.class_name}/{self.inner}"


@dataclass(frozen=True, kw_only=True)
class ClassFolders:
    """The class folders of a root."""

    root: Path
    classes: Mapping[str, tuple[ImageFile, ...]]
    """Those with usable images, by their bytes."""
    empty: tuple[str, ...]
    left_out: Counter[str]
    """How many entries, by why."""


def walk_folder(root: Path) -> dict[Part, ClassFolders]:
    """What lies in a folder: its train/, val/ and test/, or all of it as ``train``.

    Raises:
        DataError: there are no images, images that belong to no class, or classes that cannot be trained.
    """
    if not root.is_dir():
        raise DataError(f"{shown(root)}: no such folder of images")
    places = {part: next((root / n for n in names if (root / n).is_dir()), None) for part, names in SPLITS.items()}
    if places["train"] is None:
        places = {"train": root}
    found = {part: _walk(place) for part, place in places.items() if place is not None}
    train = found["train"]
    for part in found.values():
        if unknown := part.classes.keys() - train.classes.keys():
            raise DataError(f"{shown(part.root / min(unknown, key=os.fsencode))}: a class without training images")
    if len(train.classes) == 1:
        raise DataError(f"{shown(train.root)}: expected at least 2 classes, found 1")
    return found


def notes(found: Mapping[Part, ClassFolders]) -> tuple[str, ...]:
    """What was left out of the folders, in one line; nothing where nothing was."""
    left_out = sum((part.left_out for part in found.values()), Counter[str]())
    texts = [f"{count} {why}" for why, count in sorted(left_out.items())]
    if empty := [shown(part.root / name) for part in found.values() for name in part.empty]:
        more = f" and {len(empty) - MAX_NAMED} more" if len(empty) > MAX_NAMED else ""
        texts.append(f"{len(empty)} without images ({', '.join(empty[:MAX_NAMED])}{more})")
    return (f"left out: {'; '.join(texts)}",) if texts else ()


def shown(path: str | Path) -> str:
    """A path as one printable line, whatever bytes its name holds."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@cache
def image_suffixes() -> frozenset[str]:
    """Endings of the files that Pillow decodes, in lower case."""
    known = Image.registered_extensions()
    return frozenset(end for end, name in known.items() if name in Image.OPEN and name not in NOT_DECODED)


def _walk(root: Path) -> ClassFolders:
    left_out: Counter[str] = Counter()
    folders = []
    for entry in _entries(root, left_out):
        match _kind(entry):
            case "folder":
                folders.append(entry.name)
            case "image":
                raise DataError(f"{shown(root)}: expected one folder for each class, found images beside them")
            case other:
                left_out[f"{other}s"] += 1
    found = {name: tuple(_files(root, name, left_out)) for name in sorted(folders, key=os.fsencode)}
    if not any(found.values()):
        raise DataError(f"{shown(root)}: no images in it (looked for every format that Pillow decodes)")
    return ClassFolders(
        root=root,
        classes={name: files for name, files in found.items() if files},
        empty=tuple(name for name, files in found.items() if not files),
        left_out=left_out,
    )


def _files(root: Path, class_name: str, left_out: Counter[str]) -> list[ImageFile]:
    """The images of a class by the bytes of their names; a folder that holds itself is not entered again."""
    found: list[ImageFile] = []
    waiting = [("", frozenset({_identity(root)}))]
    while waiting:
        inner, above = waiting.pop()
        folder = root / class_name / inner
        if (identity := _identity(folder)) in above:
            left_out["circular links"] += 1
            continue
        for entry in _entries(folder, left_out):
            name = f"{inner}/{entry.name}" if inner else entry.name
            match _kind(entry):
                case "folder":
                    waiting.append((name, above | {identity}))
                case "image" | "broken image" as kind:
                    stat, usable = entry.stat(), kind == "image"
                    inner_name = name if usable else name.removesuffix(BROKEN)
                    found.append(ImageFile(class_name, inner_name, stat.st_size, stat.st_mtime_ns, usable))
                    if not usable:
                        left_out["broken images"] += 1
                case other:
                    left_out[f"{other}s"] += 1
    by_name = {
        file.inner: file for file in sorted(found, key=lambda file: file.usable)
    }  # a repaired one takes its place
    files = sorted(by_name.values(), key=lambda file: os.fsencode(file.inner))
    return files if any(file.usable for file in files) else []


def _entries(folder: Path, left_out: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, without what is hidden."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES:
                    left_out["hidden or system entries"] += 1
                else:
                    yield entry
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot be read: {error.strerror}") from None


def _kind(entry: os.DirEntry[str]) -> Kind:
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122
            if suffix == BROKEN and os.path.splitext(stem)[1].lower() in image_suffixes():  # noqa: PTH122
                return "broken image"
            return "image" if suffix.lower() in image_suffixes() else "other file"
    except OSError:  # a link to itself
        return "dead link"
    return "dead link" if entry.is_symlink() else "device"


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino
