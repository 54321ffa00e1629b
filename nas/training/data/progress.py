"""Tells how far a long work on a data set is. No torch."""

import sys
import time
from collections.abc import Callable

Tell = Callable[[str], None]
"""Hears a line for people."""
FIRST_S, EVERY_S = 3.0, 10.0
"""When a line is told first, and how long after it the next."""


def tell_error(line: str) -> None:
    """On standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Progress:
    """Rate and time left, now and then; nothing of what is soon done."""

    def __init__(self, total: int, what: str, tell: Tell) -> None:
        self._total, self._what, self._tell = total, what, tell
        self._done = 0
        self._began = time.monotonic()
        self._next = self._began + FIRST_S

    def step(self, count: int) -> None:
        """``count`` more are done."""
        self._done += count
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_S
        rate = self._done / (now - self._began)
        left_s = (self._total - self._done) / rate
        left = f"{left_s:,.0f} s" if left_s < 120 else f"{left_s / 60:,.0f} min"  # noqa: PLR2004
        self._tell(f"{self._what}: {self._done:,} of {self._total:,} images, {rate:,.0f} a second, {left} left")
