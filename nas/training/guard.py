"""Feeds steps, blocks and epochs to the signals and turns alarms into stored evidence and verdicts."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nas.measurement import StabilityEvent
from nas.training.config import GuardConfig
from nas.training.signals.reading import BlockReading, EpochReading, Observation
from nas.training.signals.signal import Alarm, Signal

TRACE = 20
"""Steps that an event carries."""
BLOCK_TRACE = 5
"""Readings of the block that an event carries beside them."""


class Guard:
    """Watches one run. `observe`, `inspect` and `judge` give the event that ends it; `events` holds all of them."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.signals = config.signals()
        self.trace: deque[Observation] = deque(maxlen=TRACE)
        self.readings: dict[tuple[int, int], deque[BlockReading]] = {}
        self.events: list[StabilityEvent] = []
        self.rate_factor = 1.0
        """What the learning rate is to be multiplied by: below 1 after a recovery."""

    @property
    def inspects(self) -> bool:
        """Whether any signal looks at blocks."""
        return any(type(signal).inspect is not Signal.inspect for signal in self.signals)

    def observe(self, seen: Observation) -> StabilityEvent | None:
        """Take in one step; the event that ends the run here."""
        self.trace.append(seen)
        return self._answer((signal, signal.observe(seen)) for signal in self.signals)

    def inspect(self, readings: Sequence[BlockReading]) -> StabilityEvent | None:
        """Take in the blocks of one sampled step; the event that ends the run here."""
        for seen in readings:
            kept = self.readings.setdefault((seen.stage, seen.block), deque(maxlen=BLOCK_TRACE))
            kept.append(seen)
            event = self._answer(((signal, signal.inspect(seen)) for signal in self.signals), block=seen)
            if event is not None:
                return event
        return None

    def in_doubt(self, seen: EpochReading) -> bool:
        """Whether a signal needs the second look at validation, `EpochReading.batch_accuracy`, to judge this epoch."""
        return any(signal.in_doubt(seen) for signal in self.signals)

    def judge(self, seen: EpochReading) -> StabilityEvent | None:
        """Take in one epoch; the event that ends the run here."""
        return self._answer(((signal, signal.judge(seen)) for signal in self.signals), epoch=seen)

    def _answer(
        self,
        answers: Iterator[tuple[Signal, Alarm | None]],
        *,
        block: BlockReading | None = None,
        epoch: EpochReading | None = None,
    ) -> StabilityEvent | None:
        """Every signal is asked; the first alarm whose verdict is final ends the run."""
        for signal, alarm in list(answers):
            if alarm is None:
                continue
            verdict = self.config.verdict(signal.name)
            event = self._event(signal, alarm, block, epoch)
            if verdict == "warn":
                self._warn(event)
            elif verdict == "recover" and self.rate_factor == 1:
                self._recover(event)
                return None
            else:
                self.events.append(event)
                return event
        return None

    def _warn(self, event: StabilityEvent) -> None:
        """Record the first warning of a signal about a block."""
        where = (event.signal, event.stage, event.block)
        if where not in [(past.signal, past.stage, past.block) for past in self.events]:
            self.events.append(event)

    def _recover(self, event: StabilityEvent) -> None:
        """Lower the learning rate and let every signal start afresh."""
        self.rate_factor = self.config.recover_factor
        note = f"{event.message}; the learning rate is multiplied by {self.rate_factor:g} from here"
        self.events.append(StabilityEvent(**{**vars(event), "message": note}))
        self.signals = self.config.signals()

    def _event(
        self, signal: Signal, alarm: Alarm, block: BlockReading | None, epoch: EpochReading | None
    ) -> StabilityEvent:
        seen = block or epoch or self.trace[-1]
        steps = tuple(observation.to_dict() for observation in self.trace)
        readings = self.readings.get((block.stage, block.block), ()) if block else ()
        where = f"step {seen.step}" + (f", layer{block.stage}.{block.block}" if block else "")
        return StabilityEvent(
            signal=signal.name,
            epoch=seen.epoch,
            step=seen.step,
            value=alarm.value if math.isfinite(alarm.value) else None,
            threshold=signal.threshold,
            message=f"{where}: {alarm.message}",
            stage=block.stage if block else None,
            block=block.block if block else None,
            trace=(*steps, *(r.to_dict() for r in readings), *([epoch.to_dict()] if epoch else [])),
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that is remembered, as plain values."""
        return {
            "signals": {signal.name: signal.state_dict() for signal in self.signals},
            "trace": [asdict(seen) for seen in self.trace],
            "readings": [asdict(seen) for kept in self.readings.values() for seen in kept],
            "events": [{**vars(event), "trace": list(event.trace)} for event in self.events],
            "rate_factor": self.rate_factor,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`; a signal that was not watched then starts afresh."""
        for signal in self.signals:
            if signal.name in state["signals"]:
                signal.load_state_dict(state["signals"][signal.name])
        self.trace.extend(Observation(**seen) for seen in state["trace"])
        for fields in state["readings"]:
            seen = BlockReading(**fields)
            self.readings.setdefault((seen.stage, seen.block), deque(maxlen=BLOCK_TRACE)).append(seen)
        self.events = [StabilityEvent(**{**event, "trace": tuple(event["trace"])}) for event in state["events"]]
        self.rate_factor = state["rate_factor"]
