"""Decodes the images of a part, in chunks and in as many processes as there are cores. No torch.

Those are started by `spawn`, import little, and end with the process that wants them.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TypeVar

import numpy as np

from nas.errors import DataError, NasError
from nas.machine import cpu_count
from nas.training.data.decode import NO_LEVELS, Levels, Recipe, decode, levels_of
from nas.training.data.folder import BROKEN

CHUNK = 64
"""Images that a process decodes before it says so."""
ALONE = 512
"""Up to so many images are decoded by this process, before others would have begun."""
SHOWN_FAULTS = 10

Result = TypeVar("Result")


class BrokenFiles(DataError):
    """Files that cannot be used; all of them are in ``faults``, the first are named."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = sorted(faults)
        num = len(faults)
        if num == 1:
            super().__init__(f"{faults[0]}; repair it, or append {BROKEN} to its name")
            return
        more = [f"and {num - SHOWN_FAULTS} more"] if num > SHOWN_FAULTS else []
        named = "; ".join([*self.faults[:SHOWN_FAULTS], *more])
        super().__init__(f"{num} images cannot be used; repair them, or append {BROKEN} to their names: {named}")

    def __reduce__(self) -> tuple[type[Self], tuple[list[str]]]:
        """As another process is told: of the faults, not of the line that they make."""
        return type(self), (self.faults,)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where decoded images are written, each at its own place in files that are there."""

    images: Path
    offset: int
    """Of the first image in its file."""
    aspects: Path


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some images of a part."""

    start: int
    files: Sequence[Path]
    mode: str
    recipe: Recipe
    levels: Levels
    target: Target | None
    """None: the files are only verified."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a chunk."""

    start: int
    count: int
    sums: list[int]
    """Of the values of each channel."""
    squares: list[int]
    faults: list[str]
    """What is wrong with files that cannot be used, one line each."""


def decode_chunk(chunk: Chunk) -> Outcome:
    """Decode the images of a chunk, and write them where they are wanted.

    Raises:
        OSError: they cannot be written.
    """
    decoded, faults = [], []
    for file in chunk.files:
        try:
            decoded.append(decode(file, chunk.mode, chunk.recipe, chunk.levels))
        except DataError as error:
            faults.append(str(error))
    if faults:
        return Outcome(start=chunk.start, count=len(chunk.files), sums=[], squares=[], faults=faults)
    images = np.stack([pixels.bytes for pixels in decoded])
    if chunk.target is not None:
        aspects = np.asarray([pixels.aspect for pixels in decoded], np.float32)
        _write(chunk.target.images, chunk.target.offset + chunk.start * images[0].nbytes, images.tobytes())
        _write(chunk.target.aspects, chunk.start * aspects.itemsize, aspects.tobytes())
    channels = images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1).astype(np.int64)
    return Outcome(
        start=chunk.start,
        count=len(images),
        sums=channels.sum(1).tolist(),
        squares=(channels**2).sum(1).tolist(),
        faults=[],
    )


def _write(path: Path, offset: int, content: bytes) -> None:
    """At a place of a file; on the disk when it returns."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def measure_levels(files: Sequence[Path]) -> Levels:
    """What the images hold beyond bytes."""
    found = NO_LEVELS
    for levels in _each(levels_of, [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)], len(files)):
        found |= levels
    return found


def decode_chunks(chunks: Sequence[Chunk]) -> Iterator[Outcome]:
    """What comes of each chunk, in the order in which they end."""
    return _each(decode_chunk, chunks, sum(len(chunk.files) for chunk in chunks))


def refuse(faults: Sequence[str]) -> None:
    """Raise `BrokenFiles` where there are any."""
    if faults:
        raise BrokenFiles(faults)


def _each(function: Callable[[Any], Result], tasks: Sequence[Any], num_images: int) -> Iterator[Result]:
    if num_images <= ALONE:
        yield from map(function, tasks)
        return
    with _processes() as pool:
        with _without_main():  # all processes are started by the first of them
            futures: list[Future[Result]] = [pool.submit(function, task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()


@contextmanager
def _processes() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(cpu_count(), mp_context=context, initializer=_end_with_parent)
    try:
        yield pool
    except BrokenProcessPool:
        raise NasError("a process that decodes images was killed; type the same command again, it goes on") from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that are started meanwhile do not run the user's script again, which may open data at once."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _end_with_parent() -> None:
    """Also where it is killed; Ctrl-C is its business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
