"""Feeds every optimiser step to the signals and turns the first alarm into stored evidence."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from nas.measurement import StabilityEvent
from nas.training.config import GuardConfig
from nas.training.signals import Observation

TRACE = 20
"""Observations that an event carries."""


class Guard:
    """Watches one run."""

    def __init__(self, config: GuardConfig) -> None:
        self.signals = config.signals()
        self.trace: deque[Observation] = deque(maxlen=TRACE)

    def observe(self, seen: Observation) -> StabilityEvent | None:
        """Take in one step; the event of the first signal that passes its threshold here."""
        self.trace.append(seen)
        for signal in self.signals:
            alarm = signal.observe(seen)
            if alarm is not None:
                return StabilityEvent(
                    signal=signal.name,
                    epoch=seen.epoch,
                    step=seen.step,
                    value=alarm.value if math.isfinite(alarm.value) else None,
                    threshold=signal.threshold,
                    message=f"step {seen.step}: {alarm.message}",
                    trace=tuple(observation.to_dict() for observation in self.trace),
                )
        return None

    def state_dict(self) -> dict[str, Any]:
        """What the signals remember, by name."""
        return {signal.name: signal.state_dict() for signal in self.signals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`; a signal that was not watched then starts afresh."""
        for signal in self.signals:
            if signal.name in state:
                signal.load_state_dict(state[signal.name])
