"""How a worker is told to leave."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class StopFlag:
    """Set by a signal, a lost parent or a deadline; asked at every batch."""

    orphaned: Callable[[], bool] | None = None
    deadline: float | None = None
    _event: threading.Event = field(default_factory=threading.Event)

    def set(self) -> None:
        """Ask the worker to put its trial back and leave."""
        self._event.set()

    def __call__(self) -> bool:
        orphaned = self.orphaned is not None and self.orphaned()
        late = self.deadline is not None and time.time() > self.deadline
        return self._event.is_set() or orphaned or late
