"""What a worker process says, kept for the one that started it."""

import os
import tempfile
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from nas.temporary import temporary_root


class WorkerLog:
    """A file in memory: no folder of temporary files can be cleaned, or full, while the worker runs.

    It goes to the worker's process as an open file, which both share.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._file = os.fdopen(_nameless() if descriptor is None else descriptor, "r+b", buffering=0)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self._file.fileno()),)

    def take_output(self) -> None:
        """Send to this log what the process prints from now on."""
        for standard in (1, 2):
            os.dup2(self._file.fileno(), standard)

    def last_line(self) -> str:
        """What was said last, once the worker has ended; empty where it has said nothing."""
        self._file.seek(0)
        lines = (self._file.read() or b"").decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """Forget what was said."""
        self._file.close()


def _nameless() -> int:
    """A new open file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fusion-nas-worker")
    descriptor, name = tempfile.mkstemp(dir=temporary_root())  # macOS
    Path(name).unlink()
    return descriptor


def _received(descriptor: Any) -> WorkerLog:
    return WorkerLog(descriptor.detach())
