"""What a study would do, before it is begun: its first candidates, its time, and which constraints bite."""

import math
from dataclasses import dataclass

import optuna

from nas.architecture import Architecture
from nas.machine import cpu_count
from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace
from nas.study.calibration.task import task_of
from nas.study.config import StudyConfig
from nas.study.launch.checks import open_checked
from nas.study.launch.constraints import check_constraints
from nas.study.search.sampler import FusionSampler, suggest
from nas.training.data.labels import check_labels
from nas.training.pace import Pace, measure_pace
from nas.training.summary import LabelCheck

SUGGESTIONS = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study before its first trial."""

    space: SearchSpace
    labels: LabelCheck | None
    """Whether labels mean something; None where there are too few images to say."""
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
    data, space = open_checked(config)
    suggestions = first_suggestions(config, space)
    pace = measure_pace(suggestions[0], data, config.training, threads=max(1, cpu_count() // num_workers))
    epoch_s = data.summary.num_train / pace.train + data.summary.num_val / pace.val
    trial_s = config.training.epochs * epoch_s
    asked = config.first_calibration
    runs = task_of(config, data.summary, asked).runs if asked else []
    calibration_s = sum(run.effort for run in runs) * epoch_s / num_workers
    return Plan(
        space=space,
        labels=check_labels(data),
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
