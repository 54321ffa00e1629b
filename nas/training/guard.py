"""Feeds steps, blocks and epochs to the signals and turns alarms into stored evidence and verdicts."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nas.measurement import CAME_BACK, StabilityEvent
from nas.training.config import GuardConfig
from nas.training.signals.level import Level
from nas.training.signals.reading import BlockReading, EpochReading, Observation
from nas.training.signals.signal import Alarm, Signal

TRACE = 20
"""Steps that an event carries."""
BLOCK_TRACE = 5
"""Readings of the block that an event carries beside them."""


PATIENCE, PATIENCE_PART = 2, 10
"""What an alarm leaves a run to come back: this many epochs, and one of so many of all."""
PATIENCE_STEPS, PATIENCE_STEPS_SHARE = 40, 1 / 3
"""Epochs can be short: also this many steps, or this share of all steps where that is less."""


@dataclass
class Probation:
    """A run goes on after an alarm, and ends unless it comes back."""

    event: StabilityEvent
    epochs: int = 0
    """Epochs that have ended since."""


class Guard:
    """Watches one run. `observe`, `inspect` and `judge` give the event that ends it; `events` holds all of them."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.signals = config.signals()
        self.trace: deque[Observation] = deque(maxlen=TRACE)
        self.readings: dict[tuple[int, int], deque[BlockReading]] = {}
        self.events: list[StabilityEvent] = []
        self.level = Level()
        self.probation: Probation | None = None
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

    def judge(self, seen: EpochReading) -> StabilityEvent | None:
        """Take in one epoch; the event that ends the run here."""
        self.level.see(seen)
        final = self._answer(((signal, signal.judge(seen, self.level)) for signal in self.signals), epoch=seen)
        return final or self._patience_ends(seen)

    def _patience_ends(self, seen: EpochReading) -> StabilityEvent | None:
        """Lift the probation of a run that has come back; the event that ends one which has not in its time."""
        if self.probation is None:
            return None
        event = self.probation.event
        if self.level.lost_in_a_row == 0:
            if seen.epoch > event.epoch:  # an epoch that began before the alarm says little of what came after it
                self._put(event, f"{CAME_BACK} {seen.epoch}")
                self.probation = None
            return None
        self.probation.epochs += 1
        patience = max(PATIENCE, math.ceil(seen.num_epochs / PATIENCE_PART))
        epochs = min(self.probation.epochs, self.level.lost_in_a_row)
        num_steps = (seen.step + 1) / (seen.epoch + 1) * seen.num_epochs
        patience_steps = min(PATIENCE_STEPS, PATIENCE_STEPS_SHARE * num_steps)
        if seen.last or epochs < patience or seen.step - event.step < patience_steps:
            return None
        return self._put(event, f"{epochs} epochs later {self.level.lost(seen)}", seen)

    def _put(self, event: StabilityEvent, note: str, seen: EpochReading | None = None) -> StabilityEvent:
        """Say what became of an alarm; one that ends the run, by the epoch given, is the last of the events."""
        told = replace(event, message=f"{event.message}; {note}")
        if seen is not None:
            told = replace(told, trace=(*event.trace, seen.to_dict()))
            self.events = [*(past for past in self.events if past != event), told]
        else:
            self.events = [told if past == event else past for past in self.events]
        return told

    def _answer(
        self,
        answers: Iterator[tuple[Signal, Alarm | None]],
        *,
        block: BlockReading | None = None,
        epoch: EpochReading | None = None,
    ) -> StabilityEvent | None:
        """Every signal is asked; the first alarm that is final ends the run, others put it on probation."""
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
            elif signal.final:
                self.events.append(event)
                return event
            else:
                self._warn(event)
                self.probation = self.probation or Probation(event)
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
        self.signals, self.probation, self.level.lost_in_a_row = self.config.signals(), None, 0

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
            "events": [_plain(event) for event in self.events],
            "level": self.level.state_dict(),
            "probation": {**vars(self.probation), "event": _plain(self.probation.event)} if self.probation else None,
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
        self.events = [_event_of(event) for event in state["events"]]
        self.level = Level.of(state.get("level", {}))  # older checkpoints have none, nor what follows
        if (probation := state.get("probation")) is not None:
            self.probation = Probation(**{**probation, "event": _event_of(probation["event"])})
        self.rate_factor = state["rate_factor"]


def _plain(event: StabilityEvent) -> dict[str, Any]:
    return {**vars(event), "trace": list(event.trace)}


def _event_of(fields: Mapping[str, Any]) -> StabilityEvent:
    return StabilityEvent(**{**fields, "trace": tuple(fields["trace"])})
