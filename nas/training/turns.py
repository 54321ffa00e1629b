"""Taking turns on a device: many train on it at once, and now and then one measures alone.

Two locked files for each device, `gate` and `busy`. Who trains holds `busy` together with the others and looks at
the gate before every batch. Who measures closes the gate and then waits until nobody is busy. The system frees the
locks of a process that dies.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import torch


class Turns:
    """The turns of all workers of this machine on one device."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._folder = Path(tempfile.gettempdir()) / f"fusion-nas-{os.getuid()}"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def together(self) -> Iterator[Callable[[], None]]:
        """A block that uses the device among others, and often calls what it is given: that lets others be alone."""
        with self._locks() as (gate, busy):
            _enter(gate, busy)
            yield partial(self._give_way, gate, busy)

    def _give_way(self, gate: IO[str], busy: IO[str]) -> None:
        try:
            fcntl.flock(gate, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            fcntl.flock(busy, fcntl.LOCK_UN)
            _enter(gate, busy)
        else:
            fcntl.flock(gate, fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block during which nobody that takes turns uses the device."""
        with self._locks() as (gate, busy):
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(busy, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _locks(self) -> Iterator[tuple[IO[str], IO[str]]]:
        """The two files; closing them unlocks them."""
        name = "cpu" if self._device.type == "cpu" else f"{self._device.type}-{self._device.index or 0}"
        with (self._folder / f"{name}.gate").open("w") as gate, (self._folder / f"{name}.busy").open("w") as busy:
            yield gate, busy


def _enter(gate: IO[str], busy: IO[str]) -> None:
    fcntl.flock(gate, fcntl.LOCK_SH)
    fcntl.flock(busy, fcntl.LOCK_SH)
    fcntl.flock(gate, fcntl.LOCK_UN)
