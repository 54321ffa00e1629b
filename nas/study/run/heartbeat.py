"""Signs of life of a worker while it trains."""

import threading
from collections.abc import Callable

from nas.study.store.errors import CONNECTION_LOST
from nas.study.store.workers import HEARTBEAT_S, grace_s


class Heartbeat:
    """Signs of life from a thread of its own while the worker trains."""

    def __init__(self, give_sign: Callable[[], None]) -> None:
        self._give_sign = give_sign
        self._pause_s = min(HEARTBEAT_S, grace_s() / 4)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def _beat(self) -> None:
        while not self._done.wait(self._pause_s):
            try:
                self._give_sign()
            except CONNECTION_LOST:
                continue  # the worker itself finds the lost connection; the next beat may succeed

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
