"""How a search went: scores over trials, epochs spent and saved, and the front of score and cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.measurement import EpochRecord
from nas.report.instability import is_unstable
from nas.study.goals import Objectives
from nas.study.records import ENDED, TrialRecord


@dataclass(frozen=True, kw_only=True)
class HistoryPoint:
    """A trial that ran, in the order of the numbers."""

    trial: int
    kind: str
    """complete, stopped (by the pruner), unstable or running."""
    value: float
    """Of the leading objective, after the last epoch."""
    best_so_far: float | None
    """Best value of a complete trial within the constraints up to this one."""


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Epochs and time of all ended trials."""

    num_complete: int
    num_stopped: int
    """By the pruner."""
    num_unstable: int
    epochs_run: int
    epochs_full: int
    """Had every trial run its budget."""
    train_s: float
    """Wall time of the trials, added over workers."""
    saved_s: float
    """Time of the epochs that were not run, at each trial's own speed."""

    @property
    def epochs_saved(self) -> int:
        """Epochs that were not run."""
        return self.epochs_full - self.epochs_run

    @property
    def saved_share(self) -> float:
        """Saved part of all epochs, in [0, 1]."""
        return self.epochs_saved / self.epochs_full if self.epochs_full else 0.0


def kind_of(record: TrialRecord) -> str:
    """complete, stopped, infeasible, unstable, running, waiting or fail."""
    if is_unstable(record):
        return "unstable"
    if record.refused is not None:
        return "infeasible"
    return "stopped" if record.state == "pruned" else record.state


def history(records: Sequence[TrialRecord], goals: Objectives) -> tuple[HistoryPoint, ...]:
    """One point for each trial that has a finite value of the leading objective."""
    points: list[HistoryPoint] = []
    best: float | None = None
    for record in records:
        value = record.values.get(goals.leading, math.nan)
        if not math.isfinite(value):
            continue
        if record.merit is not None:
            best = value if best is None else max(best, value, key=goals.merit)
        points.append(HistoryPoint(trial=record.number, kind=kind_of(record), value=value, best_so_far=best))
    return tuple(points)


def spending(records: Sequence[TrialRecord]) -> Spending:
    """What the ended trials cost and what stopping them early saved."""
    ended = [t for t in records if t.state in ENDED and t.budget is not None]
    missing = [(t, max(0, (t.budget or 0) - len(t.epochs))) for t in ended]
    usual_s = _mean_epoch_s([epoch for t in ended for epoch in t.epochs])
    return Spending(
        num_complete=sum(t.state == "complete" for t in ended),
        num_stopped=sum(kind_of(t) == "stopped" for t in ended),
        num_unstable=sum(is_unstable(t) for t in ended),
        epochs_run=sum(len(t.epochs) for t in ended),
        epochs_full=sum(len(t.epochs) + rest for t, rest in missing),
        train_s=sum(t.wall_s or 0.0 for t in ended),
        saved_s=sum(rest * (_mean_epoch_s(t.epochs) or usual_s) for t, rest in missing),
    )


def _mean_epoch_s(epochs: Sequence[EpochRecord]) -> float:
    return sum(e.train_s + e.val_s for e in epochs) / len(epochs) if epochs else 0.0


def survivors(records: Sequence[TrialRecord], num_shown: int = 8) -> tuple[tuple[int, int], ...]:
    """Pairs of an epoch (from 1) and how many trials finished it, at up to ``num_shown`` epochs."""
    longest = max((len(t.epochs) for t in records), default=0)
    count = min(longest, num_shown)
    epochs = [1 + round(i * (longest - 1) / max(1, count - 1)) for i in range(count)]
    return tuple((epoch, sum(len(t.epochs) >= epoch for t in records)) for epoch in epochs)


def front(records: Sequence[TrialRecord]) -> tuple[TrialRecord, ...]:
    """Complete trials that no other beats in both score and MACs, from cheap to dear."""
    found: list[TrialRecord] = []
    complete = [t for t in records if t.state == "complete" and t.score is not None and t.macs is not None]
    for record in sorted(complete, key=lambda t: (t.macs or 0, -(t.score or 0.0), t.number)):
        if not found or (record.score or 0.0) > (found[-1].score or 0.0):
            found.append(record)
    return tuple(found)
