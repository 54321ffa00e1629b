"""What the guard makes of runs that were recorded: no training is needed to ask again with other rules."""

from dataclasses import dataclass
from itertools import groupby
from statistics import median

import numpy as np

from benchmarks.guarding.record import Run, inspections, readings
from nas.measurement import StabilityEvent
from nas.training.config import GuardConfig
from nas.training.guard import Guard
from nas.training.signals.reading import EpochReading


@dataclass(frozen=True)
class Judged:
    """One run, its truth, and what the guard makes of it."""

    key: str
    held_out: bool
    finite: bool
    score: float
    """Balanced accuracy after the last epoch."""
    chance: float
    best: float
    """The highest of all epochs."""
    middle: float
    """Between chance and the plain network's median under the unharmed recipe of its task."""
    num_epochs: int
    curve: tuple[float, ...]
    """Balanced accuracy, epoch by epoch."""
    reason: str | None
    epochs: float
    """That were run, or would have been."""
    alarms: tuple[str, ...]
    """Signals that spoke, in order, also those that the run came back from."""

    @property
    def task(self) -> str:
        return self.key.split(" / ")[0]

    @property
    def group(self) -> str:
        return self.key.split(" / ")[1]

    @property
    def plain(self) -> bool:
        return self.key.split(" / ")[2] == "plain" and self.group == "unharmed"

    @property
    def failed(self) -> bool:
        """Not finite, or below the middle."""
        return not self.finite or self.score < self.middle

    @property
    def broke(self) -> bool:
        """Failed because it was not finite, at chance in the end, or below the middle of what it had: it did not
        merely learn slowly."""
        nothing = self.chance + 0.15 * (1 - self.chance)
        lost = self.score <= nothing or self.score < (self.chance + self.best) / 2
        return not self.finite or (self.failed and lost)

    @property
    def saved(self) -> float:
        """Share of the epochs."""
        return 1 - self.epochs / self.num_epochs


def replay(run: Run, guard: Guard) -> tuple[StabilityEvent, int] | None:
    """The event that ends the run, looked at as on a CPU, after each step; and after which step of all."""
    blocks, ends = inspections(run), {seen.epoch: seen for seen in readings(run, "epochs")}
    for epoch, steps in groupby(readings(run, "steps"), lambda seen: seen.epoch):
        for seen in steps:
            event = guard.observe(seen) or guard.inspect(blocks.get(seen.step, []))
            if event is not None:
                return event, seen.step
        if epoch in ends and (event := guard.judge(ends[epoch])) is not None:
            return event, ends[epoch].step
    return None


def plain_scores(runs: dict[str, Run]) -> list[float]:
    """Of the plain networks under the unharmed recipe."""
    return [score(run) for key, run in runs.items() if key.split(" / ")[1:3] == ["unharmed", "plain"]]


def score(run: Run) -> float:
    """Balanced accuracy after the last epoch."""
    return last(run).accuracy


def last(run: Run) -> EpochReading:
    """Of the epochs."""
    return list(readings(run, "epochs"))[-1]


def judged(key: str, run: Run, *, plain: list[float], held_out: bool, config: GuardConfig | None = None) -> Judged:
    """Let a guard see the run."""
    guard, end = Guard(config or GuardConfig()), last(run)
    found = replay(run, guard)
    accuracies = [float(seen.accuracy) for seen in readings(run, "epochs")]
    steps_per_epoch = (end.step + 1) / (end.epoch + 1)
    watched = [event.signal for event in guard.events if guard.config.verdict(event.signal) != "warn"]
    return Judged(
        key=key,
        held_out=held_out,
        finite=bool(np.isfinite(run["steps"]).all() and np.isfinite([end.train_loss, end.val_loss]).all()),
        score=end.accuracy,
        chance=end.chance_accuracy,
        best=max(accuracies),
        middle=(end.chance_accuracy + median(plain)) / 2,
        num_epochs=end.num_epochs,
        curve=tuple(accuracies),
        reason=found[0].signal if found else None,
        epochs=(found[1] + 1) / steps_per_epoch if found else end.num_epochs,
        alarms=tuple(watched),
    )
