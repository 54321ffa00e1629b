"""An image file as bytes: what verifies files and what decodes them for training is the same function. No torch.

Shapes: C channels, H × W pixels.
"""

import math
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.errors import DataError
from nas.training.data.folder import shown

SMALL_SIZE = 128
"""Below this side, validation looks at the whole image instead of its central 7/8."""
EVAL_CROP = 0.875
STRETCH = 8 / 7
"""Side of a whole image over that of the crops that are cut from it."""
LONGEST = 8
"""Long side over short side from which only the middle of an image is resized for a central crop."""
DRAFT = 2
"""Sides of a JPEG that is decoded at a fraction of its size, over those that are needed, at least."""
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What EXIF's orientation asks for."""


class Pixels(NamedTuple):
    """A decoded image."""

    bytes: NDArray[np.uint8]
    """(C, H, W)."""
    aspect: float
    """Width over height of the whole image."""


class Header(NamedTuple):
    """What is known of an image before it is decoded."""

    mode: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Levels:
    """The values of a set's images beyond bytes: of whole numbers, with 0, and of the others."""

    smallest: int = 0
    largest: int = 0
    low: float = math.inf
    high: float = -math.inf

    def __or__(self, other: "Levels") -> "Levels":
        return Levels(
            min(self.smallest, other.smallest),
            max(self.largest, other.largest),
            min(self.low, other.low),
            max(self.high, other.high),
        )

    def scaled(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Whole numbers from 0 on without their lowest bits, others from black to white; outside: cut off."""
        low, high = self.low, self.high
        if np.issubdtype(values.dtype, np.integer):
            if self.smallest == 0:
                shift = max(0, self.largest.bit_length() - 8)
                return (values.astype(np.int64) >> shift).clip(0, 255).astype(np.uint8)
            low, high = self.smallest, self.largest
        if low >= high:  # one value, or none
            low, high = 0, 255
        return np.rint((values.astype(np.float64) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)


NO_LEVELS = Levels()
"""Of images of bytes."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is kept of an image: `exact` is what an evaluation sees, `whole` is all of it, pressed into a square."""

    kind: Literal["exact", "whole"]
    size: int
    """Side of the network's input."""

    @property
    def side(self) -> int:
        """Of what is kept."""
        return round(self.size * STRETCH) if self.kind == "whole" else self.size

    @property
    def short_side(self) -> int:
        """To which an image is resized."""
        if self.kind == "whole":
            return self.side
        return math.floor(self.size / eval_crop(self.size))

    def __call__(self, image: Image.Image) -> Image.Image:
        if self.kind == "whole":
            return image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return _central(image, self.short_side, self.size)


def eval_crop(size: int) -> float:
    """Share of the short side that validation looks at, for a network's input of this side."""
    return 1.0 if size < SMALL_SIZE else EVAL_CROP


def decode(file: Path, mode: str, recipe: Recipe, levels: Levels = NO_LEVELS) -> Pixels:
    """An image file as training sees it.

    Args:
        mode: `L` or `RGB`.
        levels: of the set that it belongs to.

    Raises:
        DataError: it cannot be read, holds values that are not finite, or is one colour once it is scaled.
    """
    image = picture(file, mode, levels, recipe.short_side)
    pixels = np.asarray(recipe(image))
    return Pixels(pixels[None] if mode == "L" else pixels.transpose(2, 0, 1), image.width / image.height)


def picture(file: Path, mode: str, levels: Levels = NO_LEVELS, short_side: int | None = None) -> Image.Image:
    """The picture as a viewer shows it; `DataError` as `decode`.

    Args:
        short_side: to which it will be resized; unset: it is wanted in full.
    """
    image = _loaded(file, short_side)
    if is_deep(image.mode):
        image = _as_bytes(image, levels, file)
    return _in_mode(image, mode)


def levels_of(files: Iterable[Path]) -> Levels:
    """What the images of a set hold beyond bytes; files that cannot be read are left to `decode`."""
    found = NO_LEVELS
    for file in files:
        try:
            if is_deep(header_of(file).mode):
                found |= _levels(np.asarray(_loaded(file, None)))
        except DataError:
            continue
    return found


def header_of(file: Path) -> Header:
    """What a file says of its image; a `DataError` where it is none."""
    try:
        with _quiet(), Image.open(file) as image:
            return Header(image.mode, image.size)
    except Exception as error:  # Pillow's many parsers raise whatever a damaged file leads them to
        raise _unreadable(file, error) from None


def is_deep(mode: str) -> bool:
    """Whether the values of an image are no bytes."""
    return mode.startswith(("I", "F"))


def _levels(values: NDArray[np.generic]) -> Levels:
    if np.issubdtype(values.dtype, np.integer):
        return NO_LEVELS | Levels(int(values.min()), int(values.max()))
    finite = values[np.isfinite(values)]
    return Levels(low=float(finite.min()), high=float(finite.max())) if finite.size else NO_LEVELS


def _loaded(file: Path, short_side: int | None) -> Image.Image:
    """Decoded and turned as its EXIF data says, where that can be read."""
    try:
        with _quiet(), Image.open(file) as image:
            if short_side is not None:
                image.draft(None, (DRAFT * short_side, DRAFT * short_side))
            image.load()
            turn = TURNS.get(_orientation(image))
            return image.copy() if turn is None else image.transpose(turn)
    except Exception as error:  # as above
        raise _unreadable(file, error) from None


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF data turns nothing
        return None


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{shown(file)}: not a readable image: {shown(reason)}")


def _as_bytes(image: Image.Image, levels: Levels, file: Path) -> Image.Image:
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise DataError(f"{shown(file)}: holds values that are not finite")
    scaled = levels.scaled(values)
    if np.ptp(values) > 0 and np.ptp(scaled) == 0:
        raise DataError(
            f"{shown(file)}: its values from {values.min():g} to {values.max():g} become one, because the images of "
            "the training part have a far larger range"
        )
    return Image.fromarray(scaled)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """What is transparent lies on white."""
    with _quiet():
        if image.has_transparency_data:
            image = image.convert("RGBA")
            paper = Image.new("RGBA", image.size, "white")
            paper.alpha_composite(image)
            image = paper
        if image.mode == "CMYK":
            image = image.convert("RGB")
        return image.convert(mode)


def _central(image: Image.Image, short_side: int, size: int) -> Image.Image:
    """timm's evaluation transform, which for a very long image would make all of it large first."""
    W, H = image.size
    short, long = min(W, H), min(max(W, H), LONGEST * min(W, H))
    image = _middle(image, *((short, long) if W <= H else (long, short)))
    W, H = image.size
    other = int(short_side * long / short)
    image = image.resize((short_side, other) if W <= H else (other, short_side), Image.Resampling.BILINEAR)
    return _middle(image, size, size)


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _quiet() -> AbstractContextManager[object]:
    """Without Pillow's remarks on large images and damaged metadata: an image is decoded or named."""
    return warnings.catch_warnings(action="ignore")
