"""What a study would do, before it is begun: its first candidates, its time, and which constraints bite."""

import math
from dataclasses import dataclass

import numpy as np
import optuna

from nas.architecture import Architecture
from nas.errors import UserError
from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace
from nas.study.calibration.table import task_of
from nas.study.config import StudyConfig
from nas.study.goals import cost_quantities
from nas.study.launch.create import cpu_count
from nas.study.run.training import known_cost
from nas.study.search.evolution import child_of
from nas.study.search.sampler import FusionSampler, suggest
from nas.training.data import open_data
from nas.training.pace import Pace, measure_pace
from nas.training.run import resolve_device

DRAWS = 48
"""Random candidates of which the constraints are asked; where none fits, as many more that grow towards fitting."""
TIMED = 6
"""Candidates that are timed for a constraint on latency: those with the fewest MACs."""
SUGGESTIONS = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study before its first trial."""

    space: SearchSpace
    suggestions: tuple[Architecture, ...]
    """What the sampler draws first, after the landmarks."""
    pace: Pace
    """Measured on the first of them."""
    epoch_s: float
    trial_s: float
    """Of a trial that runs all its epochs, for one worker."""
    calibration: tuple[int, float]
    """Trainings that come before the first trial, and seconds."""
    total_s: float
    """Of the whole study with its calibration, if no trial is stopped early."""
    bites: dict[str, float]
    """By constraint that is known before training, the share of random candidates that breaks it; of one on latency,
    of the lightest alone."""


def plan_study(config: StudyConfig, num_workers: int) -> Plan:
    """Open the data, draw, measure the pace and probe the constraints; nothing is stored.

    Raises:
        UserError: the study file does not fit its data, or no candidate can meet the constraints.
    """
    data = open_data(config.data)
    space = SearchSpace.load(config.space).on(
        backbone=config.backbone, num_classes=data.num_classes, in_chans=data.in_chans
    )
    suggestions = first_suggestions(config, space)
    pace = measure_pace(
        suggestions[0],
        data,
        batch_size=config.training.batch_size,
        device=config.training.device,
        threads=config.training.threads or max(1, cpu_count() // num_workers),
    )
    epoch_s = data.summary.num_train / pace.train + data.summary.num_val / pace.val
    trial_s = config.training.epochs * epoch_s
    asked = config.first_calibration
    runs = task_of(config, asked).runs if asked else []
    calibration_s = sum(run.effort for run in runs) * epoch_s / num_workers
    return Plan(
        space=space,
        suggestions=suggestions,
        pace=pace,
        epoch_s=epoch_s,
        trial_s=trial_s,
        calibration=(len(runs), calibration_s),
        total_s=calibration_s + math.ceil(config.trials / num_workers) * trial_s,
        bites=check_constraints(config, space, data.input_size),
    )


def first_suggestions(config: StudyConfig, space: SearchSpace) -> tuple[Architecture, ...]:
    """What the study's sampler draws before it knows any result, in a study that nobody keeps."""
    owners: dict[str, int] = {}
    landmarks = [landmark_in(space, name) for name in config.landmarks]
    owners |= {network.digest: -1 for network in landmarks}
    sampler = FusionSampler(
        space,
        config.sampler,
        config.seed,
        claim=lambda trial_id, network: owners.setdefault(network.digest, trial_id) == trial_id,
        owned=lambda _: None,
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=list(config.objectives.values()), sampler=sampler)
    for network in landmarks:
        study.enqueue_trial(space.encode(network) or {})
        study.ask()
    free = space.size - sum(network in space for network in landmarks)
    drawn = tuple(suggest(study.ask(), space) for _ in range(min(SUGGESTIONS, free)))
    return drawn or tuple(landmarks[:1])


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
