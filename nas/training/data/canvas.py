"""Digits laid on canvases: ink is a float from 0 to 1, pictures are bytes."""

import numpy as np
from numpy.typing import NDArray

from nas.training.data.arrays import ArrayPart

INK_LEVELS = 16
"""Of scikit-learn's digits, black being the last."""
LEVELS = 255

Ink = NDArray[np.float32]


def ink_of(digits: ArrayPart) -> Ink:
    """(N, 8, 8)."""
    return digits.images[:, 0].astype(np.float32) / np.float32(INK_LEVELS)


def windows(images: Ink, corner: NDArray[np.int64], side: int) -> Ink:
    """The square of each of N images whose upper left corner is a column of ``corner`` (2, N)."""
    return images[_grid(corner, side)]


def paste(canvas: Ink, piece: Ink, corner: NDArray[np.int64]) -> None:
    """Lay one piece over each canvas (N, H, W), in place; the stronger ink wins."""
    where = _grid(corner, piece.shape[1])
    canvas[where] = np.maximum(canvas[where], piece)


def under_noise(ink: Ink, deviation: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Bytes: ink from a quarter to three quarters of the range, and Gaussian noise, measured where ink is 1."""
    seen = 0.25 + (ink + deviation * random.standard_normal(ink.shape, np.float32)) / 2
    levels: NDArray[np.uint8] = np.rint(seen.clip(0, 1) * LEVELS).astype(np.uint8)
    return levels


def _grid(corner: NDArray[np.int64], side: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Index arrays that address a square window in each of N images; ``corner`` is (2, N)."""
    steps = np.arange(side)
    rows, columns = corner[0][:, None, None] + steps[:, None], corner[1][:, None, None] + steps
    return np.arange(corner.shape[1])[:, None, None], rows, columns
