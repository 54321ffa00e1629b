"""What broke: unstable trials by reason, stage and pattern, with their last losses."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nas.architecture import PATTERNS
from nas.backbones import STAGES
from nas.statistics import wilson_interval
from nas.study.records import ENDED, TrialRecord


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Trials that carry a pattern in a stage."""

    stage: int
    """From 1."""
    pattern: str
    num_trials: int
    num_unstable: int
    low: float
    high: float
    """Wilson interval of the unstable share."""


@dataclass(frozen=True, kw_only=True)
class LossTrace:
    """The last steps before the guard spoke."""

    trial: int
    signal: str
    message: str
    steps: tuple[int, ...]
    losses: tuple[float | None, ...]
    """None where the loss was not finite."""


@dataclass(frozen=True, kw_only=True)
class Return:
    """An alarm that a trial came back from."""

    trial: int
    signal: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Instability:
    """All that broke in a study."""

    num_trials: int
    """Trials that ran, at least in part."""
    num_unstable: int
    reasons: tuple[tuple[str, int], ...]
    """Why trials ended before their budget, most frequent first."""
    cells: tuple[Cell, ...]
    """Stage by stage, patterns in their order; combinations that no trial had are left out."""
    traces: tuple[LossTrace, ...]
    returns: tuple[Return, ...]


def is_unstable(record: TrialRecord) -> bool:
    """Whether the guard stopped the trial; an event that was only a warning does not count."""
    return record.state in ("pruned", "fail") and any(event.signal == record.reason for event in record.events)


def instability(records: Sequence[TrialRecord]) -> Instability:
    """Count what broke and where."""
    ran = [t for t in records if t.state in ENDED and t.architecture is not None and (t.epochs or t.events)]
    broken = [t for t in ran if is_unstable(t)]
    reasons = Counter(t.reason for t in records if t.reason and t.refused is None)
    return Instability(
        num_trials=len(ran),
        num_unstable=len(broken),
        reasons=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        cells=tuple(
            cell for stage in range(STAGES) for pattern in PATTERNS if (cell := _cell(ran, stage, pattern)) is not None
        ),
        traces=tuple(_trace(t) for t in broken),
        returns=tuple(
            Return(trial=t.number, signal=event.signal, message=event.message)
            for t in ran
            for event in t.events
            if event.came_back
        ),
    )


def _cell(ran: Sequence[TrialRecord], stage: int, pattern: str) -> Cell | None:
    those = [t for t in ran if t.architecture and t.architecture.stages[stage].pattern == pattern]
    if not those:
        return None
    count = sum(map(is_unstable, those))
    low, high = wilson_interval(count / len(those), len(those))
    return Cell(stage=stage + 1, pattern=pattern, num_trials=len(those), num_unstable=count, low=low, high=high)


def _trace(record: TrialRecord) -> LossTrace:
    event = next(event for event in reversed(record.events) if event.signal == record.reason)
    seen = [step for step in event.trace if "step" in step and "loss" in step]
    return LossTrace(
        trial=record.number,
        signal=event.signal,
        message=event.message,
        steps=tuple(int(step["step"]) for step in seen),
        losses=tuple(step["loss"] if isinstance(step["loss"], float | int) else None for step in seen),
    )
