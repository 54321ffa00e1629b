"""The data sets of a folder or of any scheme of timm's `create_dataset`, as the source divides itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from timm.data import create_dataset
from timm.data.readers.img_extensions import add_img_extensions, get_img_extensions

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data.folder import SPLITS
from nas.training.summary import Part

add_img_extensions((".tif", ".tiff"))  # timm looks for PNG and JPEG only

HELD_OUT_BY_TORCHVISION = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")
"""Data sets whose second split is the official test set."""


def folder_splits(config: DataConfig) -> dict[Part, Any]:
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


def scheme_splits(config: DataConfig) -> dict[Part, Any]:
    """Data sets of a scheme by split."""
    name, _, root = config.source.partition(":")
    scheme, _, short = name.partition("/")
    if scheme == "torch":
        second: Part = "test" if short.lower() in HELD_OUT_BY_TORCHVISION else "val"
        return {"train": open_split(config, name, root, "train"), second: open_split(config, name, root, "validation")}
    found: dict[Part, Any] = {"train": open_split(config, name, root, "train")}
    for part, split in (("val", "validation"), ("test", "test")):
        try:
            found[part] = open_split(config, name, root, split)  # type: ignore[index]  # the two names above
        except DataError:
            continue  # the source has no such split: it is cut from the training images
    return found


def open_split(config: DataConfig, name: str, root: str, split: str) -> Any:
    """timm's data set of one split, with any failure told in one line."""
    with told(config):
        return create_dataset(name, root=root or None, split=split, input_img_mode=None)


@contextmanager
def told(config: DataConfig) -> Iterator[None]:
    """What keeps timm or torchvision from opening a data set becomes a `DataError` of one line."""
    try:
        yield
    except ImportError as error:
        raise DataError(f"{config.source}: this source needs another package: {error}") from None
    except (RuntimeError, OSError, ValueError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise DataError(f"{config.source}: cannot be opened: {reason[0]}") from None
