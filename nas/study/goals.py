"""What a study optimises, and what it refuses: named quantities with directions, and limits on them. No torch."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

from nas.measurement import Cost, EpochRecord

Direction = Literal["maximize", "minimize"]
Quality = Literal["val_accuracy", "val_top5", "val_macro_f1", "val_balanced_accuracy", "val_loss"]
"""Measured on the validation part after each epoch."""
KnownCost = Literal["params", "macs", "latency_ms", "peak_memory_mb"]
"""Known before a network is trained."""
Quantity = Literal[Quality, KnownCost, "train_s"]

QUALITIES: tuple[str, ...] = get_args(Quality)
KNOWN_COSTS: tuple[str, ...] = get_args(KnownCost)
QUANTITIES: tuple[str, ...] = (*QUALITIES, *KNOWN_COSTS, "train_s")

REFUSED = "infeasible"
"""Begins the reason of a trial that a constraint keeps from training."""

_CONSTRAINT = re.compile(r"(?P<quantity>\w+)\s*(?P<relation><=|>=)\s*(?P<limit>[^\s*]+)(?P<plain>\s*\*\s*plain)?")

Quantities = Mapping[str, float]
"""Values by the names above."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A limit on one quantity, as in ``params <= 12e6`` or ``latency_ms <= 1.1 * plain``."""

    quantity: str
    relation: str
    """`<=` or `>=`."""
    limit: float
    of_plain: bool
    """Whether ``limit`` is a multiple of what the plain network has."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``QUANTITY <= NUMBER`` or ``QUANTITY <= NUMBER * plain``; raises `ValueError`."""
        form = "expected QUANTITY <= NUMBER or QUANTITY <= NUMBER * plain (or >=)"
        found = _CONSTRAINT.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{form}, got {text!r}")
        try:
            limit = float(found["limit"])
        except ValueError:
            limit = math.nan
        quantity, of_plain = found["quantity"], found["plain"] is not None
        if not math.isfinite(limit):
            raise ValueError(f"{form}, got {found['limit']!r} for the number in {text!r}")
        if quantity not in QUANTITIES:
            raise ValueError(f"unknown quantity {quantity!r} in {text!r}; known: {', '.join(QUANTITIES)}")
        if of_plain and quantity not in KNOWN_COSTS:
            raise ValueError(f"{text!r}: only {', '.join(KNOWN_COSTS)} can be limited relative to the plain network")
        return cls(quantity=quantity, relation=found["relation"], limit=limit, of_plain=of_plain)

    @property
    def known_before(self) -> bool:
        """Whether it can be answered before a network is trained."""
        return self.quantity in KNOWN_COSTS

    def bound(self, plain: Quantities) -> float:
        """The limit in the quantity's own unit."""
        return self.limit * plain[self.quantity] if self.of_plain else self.limit

    def excess(self, values: Quantities, plain: Quantities) -> float:
        """By what share of the bound it is broken; 0 or less where it holds."""
        value, bound = values[self.quantity], self.bound(plain)
        over = value - bound if self.relation == "<=" else bound - value
        return over / (abs(bound) or 1.0)

    def broken_text(self, values: Quantities, plain: Quantities) -> str:
        """The value beside the bound it breaks, for people."""
        sign = ">" if self.relation == "<=" else "<"
        return f"{self.quantity} {values[self.quantity]:.6g} {sign} {self.bound(plain):.6g}"

    def gave(self, broken_text: str) -> bool:
        """Whether `broken_text` of this constraint reads like that."""
        quantity, _, sign, *_ = broken_text.split()
        return quantity == self.quantity and sign != self.relation[0]

    def __str__(self) -> str:
        return f"{self.quantity} {self.relation} {self.limit:.12g}{' * plain' if self.of_plain else ''}"


@dataclass(frozen=True)
class Objectives:
    """What a study optimises, in the order of its file."""

    directions: Mapping[str, str]
    """`maximize` or `minimize` by quantity."""

    @property
    def names(self) -> tuple[str, ...]:
        """The quantities."""
        return tuple(self.directions)

    @property
    def leading(self) -> str:
        """The first quality: what `best` and the pruners of one objective go by."""
        return next(name for name in self.names if name in QUALITIES)

    @property
    def several(self) -> bool:
        """Whether the answer is a front rather than one network."""
        return len(self.names) > 1

    def values(self, quantities: Quantities) -> tuple[float, ...]:
        """The objectives' values in their order."""
        return tuple(quantities[name] for name in self.names)

    def merit(self, value: float) -> float:
        """A value of the leading objective, turned so that larger is better."""
        return value if self.directions[self.leading] == "maximize" else -value


def holds(limits: Sequence[Constraint], values: Quantities) -> bool:
    """Whether no limit is broken that is answered after the training; the others were answered before."""
    after = [limit for limit in limits if not limit.known_before]
    return all(limit.quantity in values and limit.excess(values, {}) <= 0 for limit in after)


def quantities(epochs: Sequence[EpochRecord], cost: Cost | None) -> dict[str, float]:
    """Every quantity that is known of a network after some epochs; those that are not are left out."""
    found = cost_quantities(cost) if cost else {}
    if epochs:
        last = epochs[-1]
        measured = {name: getattr(last, name) for name in QUALITIES}
        found |= {name: value for name, value in measured.items() if value is not None}
        found["train_s"] = sum(epoch.train_s for epoch in epochs)
    return found


def cost_quantities(cost: Cost) -> dict[str, float]:
    """What is known of a network before it is trained."""
    found = {
        "params": cost.num_params,
        "macs": cost.macs,
        "latency_ms": cost.latency_ms,
        "peak_memory_mb": cost.peak_memory_mb,
    }
    return {name: float(value) for name, value in found.items() if value is not None}
