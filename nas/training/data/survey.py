"""Looking at a folder of images before a study file is written for it."""

import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data.decode import Header, header_of, is_deep, picture
from nas.training.data.decoding import refuse
from nas.training.data.division import list_folder
from nas.training.summary import DataSummary

GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")
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


def survey_folder(folder: Path) -> Survey:
    """Look at the header of every image of a folder; those that cannot be read are told when the folder is opened.

    Raises:
        DataError: it is no data set, or none of its files is an image.
    """
    root = folder.expanduser().resolve()
    listed = list_folder(DataConfig(source=f"folder:{root}"))
    files = [part.file(i) for part in listed.parts.values() for i in range(len(part))]
    headers: dict[Path, Header] = {}
    faults: list[str] = []
    for file in files:
        try:
            headers[file] = header_of(file)
        except DataError as error:
            faults.append(str(error))
    if not headers:
        refuse(faults)
    sides = [min(header.size) for header in headers.values()]
    return Survey(
        root=root,
        summary=listed.summary,
        divided=listed.divided,
        shorter_sides=(min(sides), int(statistics.median(sides)), max(sides)),
        in_chans=1 if _all_grey(headers) else 3,
        num_deep=sum(is_deep(header.mode) for header in headers.values()),
        num_cmyk=sum(header.mode == "CMYK" for header in headers.values()),
    )


def _all_grey(headers: dict[Path, Header]) -> bool:
    coloured = [file for file, header in headers.items() if header.mode not in GREY_MODES]
    step = -(-len(coloured) // NUM_PROBED) or 1
    return all(_is_grey(file) for file in coloured[::step])


def _is_grey(file: Path) -> bool:
    """Whether its colours are grey; a file that cannot be decoded is told when the folder is opened."""
    try:
        pixels = np.asarray(picture(file, "RGB"), np.int16)
    except DataError:
        return True
    return int(np.ptp(pixels, axis=2).max()) <= 2  # noqa: PLR2004 - JPEG's rounding
