"""What broke, by stage, pattern and attention: how often, by which signal and at which step."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from nas.architecture import ATTENTIONS, PATTERNS, Architecture
from nas.backbones import STAGES
from nas.report.instability import is_unstable
from nas.statistics import wilson_interval
from nas.study.records import ENDED, TrialRecord


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Trials that carry one attention by one pattern in a stage."""

    stage: int
    """From 1."""
    pattern: str
    attention: str | None
    """In p4 the one on the residual branch; None for the pattern none."""
    num_trials: int
    num_unstable: int
    low: float
    high: float
    """Wilson interval of the unstable share."""
    reasons: tuple[tuple[str, int], ...]
    """Signals that ended them, most frequent first."""
    median_step: float | None
    """Of the events that ended them; None where none did."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``; the fields are stable."""
        return {**asdict(self), "reasons": dict(self.reasons)}


def combinations(records: Sequence[TrialRecord]) -> tuple[Combination, ...]:
    """What broke by stage, pattern and attention; combinations that no trial had are left out."""
    ran = [t for t in records if t.state in ENDED and t.architecture is not None and (t.epochs or t.events)]
    kinds = [("none", None), *((pattern, attention) for pattern in PATTERNS[1:] for attention in ATTENTIONS)]
    return tuple(
        found
        for stage in range(STAGES)
        for pattern, attention in kinds
        if (found := _combination(ran, stage, pattern, attention)) is not None
    )


def _combination(ran: Sequence[TrialRecord], stage: int, pattern: str, attention: str | None) -> Combination | None:
    those = [t for t in ran if t.architecture and _kind(t.architecture, stage) == (pattern, attention)]
    if not those:
        return None
    broken = [t for t in those if is_unstable(t)]
    reasons = Counter(t.reason for t in broken if t.reason)
    steps = [event.step for t in broken for event in t.events if event.signal == t.reason]
    low, high = wilson_interval(len(broken) / len(those), len(those))
    return Combination(
        stage=stage + 1,
        pattern=pattern,
        attention=attention,
        num_trials=len(those),
        num_unstable=len(broken),
        low=low,
        high=high,
        reasons=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        median_step=median(steps) if steps else None,
    )


def _kind(architecture: Architecture, stage: int) -> tuple[str, str | None]:
    fusion = architecture.stages[stage]
    return ("none", None) if fusion.is_off else (fusion.pattern, fusion.attention)


def combinations_table(rows: Sequence[Combination]) -> str:
    """A table for people."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "pattern", "attention", "trials", "unstable", "share", "median step", "reasons"):
        table.add_column(name, justify="left" if name in ("pattern", "attention", "reasons") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row.stage),
            row.pattern,
            row.attention or "",
            str(row.num_trials),
            str(row.num_unstable),
            f"{row.num_unstable / row.num_trials:.0%} [{row.low:.0%}, {row.high:.0%}]",
            "" if row.median_step is None else f"{row.median_step:g}",
            ", ".join(f"{count} {reason}" for reason, count in row.reasons),
        )
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    out = console.file
    assert isinstance(out, io.StringIO)  # noqa: S101 - made three lines above
    return out.getvalue().rstrip()
