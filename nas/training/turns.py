"""Taking turns on a device: many train on it at once, and now and then one measures alone.

Two locked files for each device, `gate` and `busy`. Who trains holds `busy` together with the others and looks at
the gate before every batch. Who measures closes the gate and then waits until nobody is busy. The system frees the
locks of a process that dies.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class Turns:
    """The turns of all workers of this machine on one device."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        folder = Path(tempfile.gettempdir()) / f"fusion-nas-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        name = "cpu" if self._device.type == "cpu" else f"{self._device.type}-{self._device.index or 0}"
        self._gate, self._busy = ((folder / f"{name}.{part}").open("w") for part in ("gate", "busy"))

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that uses the device among others; it calls `give_way` often."""
        self._enter()
        try:
            yield
        finally:
            fcntl.flock(self._busy, fcntl.LOCK_UN)

    def give_way(self) -> None:
        """Inside `together`: let one that wants to be alone have its turn."""
        try:
            fcntl.flock(self._gate, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            fcntl.flock(self._busy, fcntl.LOCK_UN)
            self._enter()
        else:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def _enter(self) -> None:
        fcntl.flock(self._gate, fcntl.LOCK_SH)
        fcntl.flock(self._busy, fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block during which nobody that takes turns uses the device."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._busy, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(self._busy, fcntl.LOCK_UN)
            fcntl.flock(self._gate, fcntl.LOCK_UN)
