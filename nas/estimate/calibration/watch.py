"""What a run of a calibration costs."""

import time
from collections.abc import Callable, Sequence

from nas.measurement import EpochRecord
from nas.training.device import resolve_device

OnEpoch = Callable[[EpochRecord], None]


class Watch:
    """What a training costs: seconds of this process's one thread, which other load on the machine does not lengthen;
    of the wall on an accelerator."""

    def __init__(self, device: str, on_epoch: OnEpoch | None) -> None:
        self._clock = time.process_time if resolve_device(device).type == "cpu" else time.perf_counter
        self._on_epoch = on_epoch
        self._num_epochs = 0
        self._started = self._clock()

    def note(self, epoch: EpochRecord) -> None:
        """Count an epoch that this process has run."""
        self._num_epochs += 1
        if self._on_epoch is not None:
            self._on_epoch(epoch)

    def spent_s(self) -> float:
        """Since the watch was started."""
        return self._clock() - self._started

    def whole_s(self, epochs: Sequence[EpochRecord]) -> float:
        """Of all ``epochs`` of a training, the first of which may have been run by a process that was broken off."""
        if self._num_epochs == len(epochs):
            return self.spent_s()
        if self._num_epochs == 0:
            return sum(epoch.train_s + epoch.val_s for epoch in epochs)
        return self.spent_s() * len(epochs) / self._num_epochs
