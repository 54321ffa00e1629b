"""Data that a function of the user's gives: ``python:package.module:function`` or ``python:PATH/file.py:function``.

What it may return: ``(images, labels)``, a map-style data set of PyTorch whose items are ``(image, label)``, or a
mapping of ``train``, ``val`` and ``test`` to such. Images are arrays or tensors (N, C, H, W), grey ones also (N, H, W).
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sized
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.summary import Part, stratified_split, take_training

PARTS: tuple[Part, ...] = ("train", "val", "test")
CHANNELS = (1, 3)


def open_by_function(config: DataConfig) -> ArrayData:
    """Call the function and take what it returns.

    Raises:
        DataError: there is no such function, it fails, or it returns something else.
    """
    returned = _called(config.source)
    given = returned if isinstance(returned, Mapping) else {"train": returned}
    if unknown := [key for key in given if key not in PARTS] or ([] if "train" in given else ["no train"]):
        raise DataError(f"{config.source}: expected the parts train, val, test, got {', '.join(map(str, unknown))}")
    whole = {part: _part(config.source, part, given[part]) for part in PARTS if part in given}
    train = whole["train"]
    cut = stratified_split(
        train.labels,
        val_fraction=0.0 if "val" in whole else config.val_fraction,
        test_fraction=0.0 if len(whole) > 1 else config.test_fraction,
        seed=config.split_seed,
        balanced=config.balanced,
    )
    cut["train"] = take_training(cut["train"], config)
    parts = {part: ArrayPart(train.images[index], train.labels[index]) for part, index in cut.items() if len(index)}
    parts |= {part: found for part, found in whole.items() if part != "train"}
    names = tuple(map(str, range(int(train.labels.max()) + 1)))
    num_test = len(parts["test"].labels) if "test" in parts else 0
    return ArrayData(config, parts.__getitem__, class_names=names, num_test=num_test)


def _called(source: str) -> Any:
    place, _, name = source.removeprefix("python:").rpartition(":")
    function = getattr(_module(source, place), name, None)
    if not callable(function):
        raise DataError(f"{source}: {place} has no function {name!r}")
    return _guarded(source, name, function)


def _guarded(source: str, what: str, call: Callable[[], Any]) -> Any:
    """What the user's code returns, or the one line that it failed with."""
    try:
        return call()
    except DataError:  # says what it wants to say: ours, or raised by the user's code
        raise
    except Exception as error:  # the user's code: whatever it raises is told, and ends the command
        reason = str(error).strip().splitlines()[:1] or ["no message"]
        raise DataError(f"{source}: {what} failed: {type(error).__name__}: {reason[0]}") from error


def _module(source: str, place: str) -> ModuleType:
    if not place.endswith(".py"):
        _guarded(source, f"import of {place}", lambda: importlib.import_module(place))
        return sys.modules[place]
    path = Path(place).expanduser()
    if not path.is_file():
        raise DataError(f"{source}: no such file: {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise DataError(f"{source}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses and pickling processes look a module up by its name
    _guarded(source, str(path), partial(spec.loader.exec_module, module))
    return module


def _part(source: str, part: Part, given: Any) -> ArrayPart:
    where = f"{source}: {part}"
    if isinstance(given, tuple | list) and len(given) == 2:  # noqa: PLR2004 - images and labels
        images, labels = _guarded(source, f"reading the {part} part", lambda: [_array(value) for value in given])
    elif isinstance(given, Sized) and hasattr(given, "__getitem__"):
        images, labels = _guarded(source, f"reading the {part} part", lambda: _items(where, given))
    else:
        kind = type(given).__name__
        raise DataError(f"{where}: expected (images, labels) or a map-style data set, got {kind}")
    if images.ndim == 3:  # noqa: PLR2004 - (N, H, W)
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] not in CHANNELS or images.shape[2] != images.shape[3]:  # noqa: PLR2004
        raise DataError(f"{where}: expected square images (N, 1 or 3, H, W) or (N, H, W), got {images.shape}")
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{where}: expected images of bytes or floats, got {images.dtype}")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        got = f"{labels.dtype} {labels.shape}"
        raise DataError(f"{where}: expected an integer label for each of {len(images)} images, got {got}")
    if not len(labels) or labels.min() < 0:
        raise DataError(f"{where}: expected images whose labels count from 0, got {list(np.unique(labels)[:3])}")
    return ArrayPart(images, labels.astype(np.int64))


def _array(value: Any) -> NDArray[Any]:
    """Of an array, a tensor, or a list of numbers."""
    return np.asarray(value.numpy(force=True) if hasattr(value, "numpy") else value)


def _items(where: str, dataset: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """All items of a map-style data set; its images must have one shape."""
    images: NDArray[Any] | None = None
    labels = np.empty(len(dataset), np.int64)
    for number in range(len(dataset)):  # PyTorch's data sets need not raise an IndexError at their end
        image, label = dataset[number]
        pixels = _pixels(image)
        if images is None:
            images = np.empty((len(dataset), *pixels.shape), pixels.dtype)
        if pixels.shape != images.shape[1:]:
            raise DataError(f"{where}: image {number} is {pixels.shape}, those before it are {images.shape[1:]}")
        images[number], labels[number] = pixels, int(label)
    if images is None:
        raise DataError(f"{where}: no images in it")
    return images, labels


def _pixels(image: Any) -> NDArray[Any]:
    """(C, H, W) of a picture, or (H, W) of a grey one."""
    if not isinstance(image, Image.Image):
        return _array(image)
    grey = image.mode in ("1", "L")
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels if grey else pixels.transpose(2, 0, 1)
