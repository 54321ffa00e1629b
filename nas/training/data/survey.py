"""Looking at a folder of images before a study file is written for it."""

import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nas.training.config import DataConfig
from nas.training.data.images import open_images
from nas.training.data.listing import ImagePart, list_images
from nas.training.summary import DataSummary

GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")
NUM_PROBED = 64
"""Colour files that are decoded to see whether their colours are grey."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a folder of images holds."""

    root: Path
    summary: DataSummary
    divided: bool
    """Whether the folder comes in train/ and val/."""
    shorter_sides: tuple[int, int, int]
    """Smallest, median and largest of the shorter sides, in pixels."""
    in_chans: int
    """1 where all images are grey, whatever their format says; else 3."""
    num_deep: int
    """Files with more than 8 bits a channel."""
    num_cmyk: int

    @property
    def num_images(self) -> int:
        """All images, the test part included."""
        return self.summary.num_train + self.summary.num_val + self.summary.num_test

    @property
    def imbalance(self) -> float:
        """Training images of the largest class over those of the smallest."""
        counts = self.summary.class_counts
        return max(counts) / max(1, min(counts))

    @property
    def majority_share(self) -> float:
        """Accuracy of always guessing the largest class."""
        return max(self.summary.class_counts) / self.summary.num_train


@dataclass(frozen=True, kw_only=True)
class _Header:
    file: Path
    mode: str
    shorter_side: int


def survey_folder(folder: Path) -> Survey:
    """Decode every image of a folder once; a `DataError` names the first that cannot be read."""
    root = folder.expanduser().resolve()
    config = DataConfig(source=f"folder:{root}")
    summary = open_images(config).summary
    parts = list_images(config).parts
    headers = [_header(file) for part in parts.values() for file in _files(part)]
    sides = [header.shorter_side for header in headers]
    return Survey(
        root=root,
        summary=summary,
        divided=parts["train"].dataset is not parts["val"].dataset,
        shorter_sides=(min(sides), int(statistics.median(sides)), max(sides)),
        in_chans=1 if _all_grey(headers) else 3,
        num_deep=sum(header.mode in DEEP_MODES for header in headers),
        num_cmyk=sum(header.mode == "CMYK" for header in headers),
    )


def _files(part: ImagePart) -> list[Path]:
    return [file for file in map(part.file, range(len(part))) if file is not None]


def _header(file: Path) -> _Header:
    with Image.open(file) as image:
        return _Header(file=file, mode=image.mode, shorter_side=min(image.size))


def _all_grey(headers: list[_Header]) -> bool:
    coloured = [header for header in headers if header.mode not in GREY_MODES]
    step = -(-len(coloured) // NUM_PROBED) or 1
    return all(_is_grey(header.file) for header in coloured[::step])


def _is_grey(file: Path) -> bool:
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"), np.int16)
    return int(np.ptp(pixels, axis=2).max()) <= 2  # noqa: PLR2004 - JPEG's rounding
