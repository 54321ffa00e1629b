"""Several objectives: the networks that none beats, beside plain; what rungs stopped and constraints kept out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.report.summary_text import SIGNS, value_text
from nas.report.trials import stages_text
from nas.study.goals import Constraint, Objectives, quantities
from nas.study.records import TrialRecord, front_of, landmark_of

SHOWN = 24
"""Members of a front that a table shows."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One objective's value of one network."""

    name: str
    value: float
    low: float | None
    high: float | None
    """Quartiles of the timed passes; None where nothing was timed."""
    plain: float | None
    """The plain network's value; None where it has none, and of the plain network itself."""

    @property
    def text(self) -> str:
        """The value for people."""
        return value_text(self.name, self.value)

    @property
    def spread_text(self) -> str:
        """The quartiles for people; empty where there are none."""
        if self.low is None or self.high is None:
            return ""
        return f"{value_text(self.name, self.low)} to {value_text(self.name, self.high)}"

    @property
    def against_plain(self) -> str:
        """The difference to the plain network: in points where the value is a fraction, else in percent."""
        if self.plain is None:
            return ""
        if self.name.startswith("val_") and self.name != "val_loss":
            return f"{100 * (self.value - self.plain):+.2f} points"
        return f"{100 * (self.value / self.plain - 1):+.1f} %" if self.plain else ""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A network in the table of the front."""

    trial: int
    label: str
    """`plain` or the name of another landmark; empty for what was searched."""
    on_front: bool
    readings: tuple[Reading, ...]
    """In the order of the objectives."""
    fusion: str
    """Of all four stages in short."""


@dataclass(frozen=True, kw_only=True)
class Front:
    """The answer of a study with several objectives."""

    heads: tuple[str, ...]
    """The objectives with the sign of their direction."""
    leading: str
    others: tuple[str, ...]
    """The objectives beside the leading one."""
    trials: tuple[int, ...]
    """Numbers of all members, best in the leading objective first."""
    members: tuple[Member, ...]
    """At most `SHOWN` of them, and the plain network last where it is none of them."""
    best: tuple[Reading, ...]
    """By objective, the best value on the front; empty before there is a complete trial."""

    @property
    def num_hidden(self) -> int:
        """Members that the table leaves out."""
        return len(self.trials) - sum(member.on_front for member in self.members)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """How many trials came to one rung, and past it."""

    epochs: int
    num_reached: int
    num_further: int
    num_promoted: int
    """Of those that went further: first stopped here and later let on."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What one constraint did."""

    constraint: str
    known_before: bool
    """Whether it is asked before the training; else of complete trials."""
    num_asked: int
    num_broken: int
    """What breaks one that is known before training is not trained; a network may break others too."""


def front(records: tuple[TrialRecord, ...], goals: Objectives) -> Front:
    """The front as far as the study has come."""
    found = front_of(records, goals)
    plain = landmark_of(records, "plain")
    plain = plain if plain is not None and plain.state == "complete" else None
    beside = [plain] if plain is not None and plain not in found else []
    rows = [[_reading(record, name, plain) for name in goals.names] for record in found]
    return Front(
        heads=tuple(head(name, goals) for name in goals.names),
        leading=goals.leading,
        others=tuple(name for name in goals.names if name != goals.leading),
        trials=tuple(record.number for record in found),
        members=tuple(
            Member(
                trial=record.number,
                label=record.landmark or "",
                on_front=record in found,
                readings=tuple(_reading(record, name, plain) for name in goals.names),
                fusion=stages_text(record),
            )
            for record in (*found[:SHOWN], *beside)
        ),
        best=tuple(
            (max if goals.directions[column[0].name] == "maximize" else min)(column, key=lambda r: r.value)
            for column in zip(*rows, strict=True)
        ),
    )


def head(name: str, goals: Objectives) -> str:
    """An objective with the sign of its direction."""
    return f"{name} {SIGNS[goals.directions[name]]}"


def _reading(record: TrialRecord, name: str, plain: TrialRecord | None) -> Reading:
    cost = record.cost if name == "latency_ms" else None
    return Reading(
        name=name,
        value=record.values[name],
        low=cost.latency_low_ms if cost else None,
        high=cost.latency_high_ms if cost else None,
        plain=None if plain is None or record is plain else plain.values.get(name),
    )


def rungs(records: Sequence[TrialRecord], levels: Sequence[int], promotions: set[tuple[int, int]]) -> tuple[Rung, ...]:
    """One row a rung.

    Args:
        levels: epochs of the rungs.
        promotions: trial and epochs of each promotion.
    """
    return tuple(
        Rung(
            epochs=level,
            num_reached=sum(len(t.epochs) >= level for t in records),
            num_further=sum(len(t.epochs) > level for t in records),
            num_promoted=sum(epochs == level for _, epochs in promotions),
        )
        for level in levels
    )


def limits(records: Sequence[TrialRecord], constraints: Sequence[Constraint]) -> tuple[Limit, ...]:
    """What each constraint did, in the order of the study file."""
    asked = [t for t in records if t.cost is not None]
    complete = [quantities(t.epochs, t.cost) for t in records if t.state == "complete"]
    refused = [t.refused for t in records if t.refused is not None]
    return tuple(
        Limit(
            constraint=str(limit),
            known_before=limit.known_before,
            num_asked=len(asked) if limit.known_before else len(complete),
            num_broken=sum(map(limit.gave, refused))
            if limit.known_before
            else sum(_breaks(limit, known) for known in complete),
        )
        for limit in constraints
    )


def _breaks(limit: Constraint, known: dict[str, float]) -> bool:
    value = known.get(limit.quantity, math.nan)
    return not math.isfinite(value) or limit.excess(known, {}) > 0
