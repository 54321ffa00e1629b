"""Taking turns on a device: many train on it at once, and now and then one measures alone.

Two locked files for each device, `gate` and `busy`. Who trains holds `busy` together with the others and looks at
the gate before every batch. Who measures closes the gate and then waits until nobody is busy. The system frees the
locks of a process that dies.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO

import torch

from nas.errors import UserError
from nas.temporary import own_folder

try:
    import fcntl
except ImportError:  # Windows
    HAS_LOCKS = False
else:
    HAS_LOCKS = True


class Turns:
    """The turns of all workers of this machine on one device.

    Raises:
        UserError: this system has no locks on files that several processes can hold together.
        NasError: the folder of the locks is somebody else's.
    """

    def __init__(self, device: str) -> None:
        if not HAS_LOCKS:
            raise UserError("latency_ms: can be timed on Linux and macOS only; on Windows use WSL")
        self._device = torch.device(device)
        own_folder()

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
        folder = own_folder()  # each time: it may have been cleaned away
        with (folder / f"{name}.gate").open("w") as gate, (folder / f"{name}.busy").open("w") as busy:
            yield gate, busy


def _enter(gate: IO[str], busy: IO[str]) -> None:
    fcntl.flock(gate, fcntl.LOCK_SH)
    fcntl.flock(busy, fcntl.LOCK_SH)
    fcntl.flock(gate, fcntl.LOCK_UN)
