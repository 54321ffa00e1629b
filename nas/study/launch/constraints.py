"""Whether a study's constraints leave anything to search, asked before its first trial."""

from dataclasses import dataclass

import numpy as np

from nas.architecture import Architecture
from nas.errors import UserError
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.goals import cost_quantities
from nas.study.run.training import known_cost
from nas.study.search.evolution import child_of
from nas.training.device import resolve_device

DRAWS = 48
"""Random candidates of which the constraints are asked; where none fits, as many more that grow towards fitting."""


TIMED = 6
"""Candidates that are timed for a constraint on latency: those with the fewest MACs."""


def check_constraints(config: StudyConfig, space: SearchSpace, input_size: tuple[int, int, int]) -> dict[str, float]:
    """Which share of random candidates breaks each constraint that is known before training.

    Latency is timed of the lightest of those that meet the rest.

    Raises:
        UserError: none does, also none of those that were changed step by step towards it; names the nearest.
    """
    limits = [limit for limit in config.limits if limit.known_before]
    if not limits:
        return {}
    about_latency = any(limit.quantity == "latency_ms" for limit in limits)
    device = str(resolve_device(config.training.device))

    def ask(network: Architecture, *, timed: bool) -> _Candidate:
        known = known_cost(network, config, input_size, device, timed=timed)
        values, plain = cost_quantities(known.fused), cost_quantities(known.plain)
        asked = [limit for limit in limits if limit.quantity in values]
        return _Candidate(
            network=network,
            macs=known.fused.macs,
            excess={str(limit): limit.excess(values, plain) for limit in asked},
            texts={str(limit): limit.broken_text(values, plain) for limit in asked},
        )

    rng = np.random.default_rng(config.seed)
    drawn = [ask(space.sample(rng), timed=False) for _ in range(DRAWS)]
    lightest = sorted((c for c in drawn if c.worst <= 0), key=lambda c: c.macs)[:TIMED]
    timed = [ask(c.network, timed=True) for c in lightest] if about_latency else []
    best = min(timed or drawn, key=lambda c: c.worst)
    for _ in range(DRAWS if best.worst > 0 else 0):
        best = min(best, ask(child_of(space, best.network, rng), timed=about_latency), key=lambda c: c.worst)
    if best.worst > 0:
        raise UserError(
            f"constraints: expected a candidate that meets {' and '.join(map(str, limits))}, found none in "
            f"{2 * DRAWS}; the nearest has {best.broken_text} ({best.network}): loosen the constraint or the space"
        )
    shares = {}
    for limit in limits:
        asked = timed if limit.quantity == "latency_ms" else drawn
        shares[str(limit)] = sum(c.excess[str(limit)] > 0 for c in asked) / len(asked)
    return shares


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    network: Architecture
    macs: int
    excess: dict[str, float]
    """By constraint, the share of the bound by which it is broken; without latency where nobody timed it."""
    texts: dict[str, str]

    @property
    def worst(self) -> float:
        return max(self.excess.values(), default=0.0)

    @property
    def broken_text(self) -> str:
        return ", ".join(self.texts[name] for name, excess in self.excess.items() if excess > 0)
