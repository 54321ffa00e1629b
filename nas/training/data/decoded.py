"""Folders' images decoded once for all processes of a machine: arrays of bytes in files that are mapped.

A part has a folder of its own, named by a digest of everything that its bytes depend on. It is made under another
name, chunk by chunk, so that one that was killed goes on where it was.
"""

import errno
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from nas.documents import write_atomically
from nas.errors import NasError
from nas.training.data.decode import Recipe
from nas.training.data.decoding import CHUNK, Chunk, Outcome, Target, decode_chunks, refuse
from nas.training.data.division import FilePart
from nas.training.data.folder import shown
from nas.training.data.progress import Progress, Tell
from nas.training.summary import digest

VERSION = 1
"""Counts up when the bytes of an image change."""
IMAGES, ASPECTS, ABOUT, DONE = "images.npy", "aspects.raw", "about.json", "done.jsonl"
MARGIN = 256 * 2**20
"""Bytes of the disk that are left to others."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The images of a part, mapped from the disk."""

    images: NDArray[np.uint8]
    """(N, C, H, W)."""
    aspects: NDArray[np.float32]
    """Width over height of each whole image."""
    moments: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Mean and standard deviation of each channel."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The place of one part's decoded images."""

    root: Path
    part: FilePart
    mode: str
    recipe: Recipe

    @cached_property
    def folder(self) -> Path:
        """Named by what the bytes depend on."""
        content = f"{VERSION} {self.recipe} {self.mode} {self.part.levels} {self.part.digest}"
        return self.root / digest([content.encode()])[:32]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return (len(self.part), len(self.mode), self.recipe.side, self.recipe.side)

    @property
    def missing_bytes(self) -> int:
        """What is yet to be written."""
        if self.folder.exists():
            return 0
        made = len(list(_outcomes(self._partial))) * CHUNK
        return max(0, len(self.part) - made) * (int(np.prod(self.shape[1:])) + 4)

    @property
    def _partial(self) -> Path:
        return self.folder.with_suffix(".partial")

    def open(self, tell: Tell) -> Decoded:
        """Map the images; the first process that asks decodes them, while the others wait.

        Raises:
            DataError: files cannot be used; all of them are counted.
            NasError: the disk is full, or cannot be written.
        """
        if (found := self._mapped()) is not None:
            return found
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder.with_suffix(".lock")):
                if (found := self._mapped()) is not None:
                    return found
                if self.folder.exists():
                    tell(f"{self.folder}: damaged; its images are decoded anew")
                    shutil.rmtree(self.folder)
                self._make(tell)
        except OSError as error:
            raise self._explained(error) from None
        if (found := self._mapped()) is None:
            raise NasError(f"{self.folder}: was changed while it was made; type the same command again")
        return found

    def _explained(self, error: OSError) -> NasError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NasError(
                f"{self.root}: the disk is full, decoded images need {self.missing_bytes / 1e9:.1f} GB more; make room "
                "and type the same command again, which goes on, or set data.cache"
            )
        return NasError(f"{error.filename or self.root}: decoded images cannot be kept: {error.strerror}")

    def _mapped(self) -> Decoded | None:
        """What is there, if it is whole and what was written."""
        images = self.folder / IMAGES
        try:
            about = json.loads((self.folder / ABOUT).read_text(encoding="ascii"))
            if about["files"] != _stamps(self.folder):
                return None
            array = np.load(images, mmap_mode="c")  # torch wants arrays that could be written
            aspects = np.fromfile(self.folder / ASPECTS, np.float32)
            moments = np.asarray(about["mean"]), np.asarray(about["deviation"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if array.shape != self.shape or array.dtype != np.uint8 or len(aspects) != len(array):
            return None
        return Decoded(images=array, aspects=aspects, moments=moments)

    def _make(self, tell: Tell) -> None:
        target = self._target()
        outcomes = list(_outcomes(self._partial))
        done = {outcome.start for outcome in outcomes}
        chunks = [chunk for chunk in chunks_of(self.part, self.mode, self.recipe, target) if chunk.start not in done]
        progress = Progress(sum(len(chunk.files) for chunk in chunks), f"decoding {shown(self.part.root)}", tell)
        faults: list[str] = []
        with (self._partial / DONE).open("a", encoding="ascii") as log:
            for outcome in decode_chunks(chunks):
                faults += outcome.faults
                if not outcome.faults:
                    outcomes.append(outcome)
                    log.write(json.dumps(asdict(outcome)) + "\n")
                    log.flush()
                progress.step(outcome.count)
        refuse(faults)
        (self._partial / DONE).unlink()
        mean, deviation = _moments(outcomes, self.shape)
        about = {"files": _stamps(self._partial), "mean": mean, "deviation": deviation}
        write_atomically(self._partial / ABOUT, json.dumps(about))
        self._partial.replace(self.folder)

    def _target(self) -> Target:
        """The files that are filled, as an earlier process left them or new."""
        images, aspects = self._partial / IMAGES, self._partial / ASPECTS
        try:
            array = np.load(images, mmap_mode="r")
        except (OSError, ValueError):
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir()
            aspects.touch()
            array = np.lib.format.open_memmap(images, mode="w+", dtype=np.uint8, shape=self.shape)
        return Target(images=images, offset=array.offset, aspects=aspects)


def chunks_of(part: FilePart, mode: str, recipe: Recipe, target: Target | None) -> Iterator[Chunk]:
    """The images of a part, a few at a time."""
    for start in range(0, len(part), CHUNK):
        files = [part.file(i) for i in range(start, min(start + CHUNK, len(part)))]
        yield Chunk(start=start, files=files, mode=mode, recipe=recipe, levels=part.levels, target=target)


def _outcomes(partial: Path) -> Iterator[Outcome]:
    """Of the chunks that were written before; a line that was cut off is none."""
    try:
        lines = (partial / DONE).read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield Outcome(**json.loads(line))
        except (ValueError, TypeError):
            return


def _moments(outcomes: list[Outcome], shape: tuple[int, int, int, int]) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel."""
    count = shape[0] * shape[2] * shape[3]
    sums = [sum(values) for values in zip(*(outcome.sums for outcome in outcomes), strict=True)]
    squares = [sum(values) for values in zip(*(outcome.squares for outcome in outcomes), strict=True)]
    variances = [(square - total * total / count) / (count - 1) for total, square in zip(sums, squares, strict=True)]
    return [total / count for total in sums], [max(0.0, variance) ** 0.5 for variance in variances]


def _stamps(folder: Path) -> dict[str, Any]:
    """Size and moment of the last change of the arrays."""
    return {name: [(folder / name).stat().st_size, (folder / name).stat().st_mtime_ns] for name in (IMAGES, ASPECTS)}
