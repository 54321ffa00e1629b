"""Measures on a study's own data which cheap score ranks architectures as full training does.

A calibration is a list of runs, each a function of the task and of its own key alone: full trainings (the truth),
brief ones, trainings on fewer or on smaller images, brief ones from the trained plain network's weights, and shared
networks that score every architecture. No run is guarded: the truth is what a training gives when nobody stops it.
Any number of processes can do the runs, each result is kept for itself, and a calibration goes on where it stopped.
Needs no torch.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

from nas.architecture import Architecture
from nas.errors import UserError
from nas.estimate.calibration.runs import Run
from nas.estimate.calibration.sample import spread_sample
from nas.estimate.config import MIN_ARCHITECTURES, MIN_SEEDS, CalibrationConfig
from nas.space.space import SearchSpace
from nas.training.config import DataConfig, TrainingConfig
from nas.training.summary import DataSummary

RECIPE = 2
"""Counts up when the same settings would give other results."""


CHEAP_SEED = 1_000
"""Added to the seeds of all but full trainings, so that no score shares its luck with the truth."""


@dataclass(frozen=True, kw_only=True)
class CalibrationTask:
    """What is calibrated; its digest keeps results apart."""

    space: SearchSpace
    data: DataConfig
    fingerprint: str
    training: TrainingConfig
    """Of a full run."""
    config: CalibrationConfig
    architectures: tuple[Architecture, ...]
    seed: int

    @property
    def digest(self) -> str:
        """First 16 hex digits of a SHA-256 over what a result depends on; not of how many runs there are."""
        content = [
            RECIPE,
            self.space.digest,
            self.fingerprint,
            # without defaults: a setting that a later version adds leaves earlier results valid
            self.training.model_dump(mode="json", exclude={"threads", "device"}, exclude_defaults=True),
            self.config.norm_images,
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def by_digest(self) -> dict[str, Architecture]:
        """The architectures by their digests."""
        return {architecture.digest: architecture for architecture in self.architectures}

    @property
    def truth(self) -> list[Run]:
        """The full trainings, all of one architecture after another."""
        seeds = range(self.seed, self.seed + self.config.seeds)
        return [
            Run(kind="full", epochs=self.training.epochs, seed=seed, digest=digest)
            for seed in seeds
            for digest in self.by_digest
        ]

    @property
    def runs(self) -> list[Run]:
        """Everything that is to be done: brief trainings, which soon show something, then the longest runs first, so
        that no worker ends alone."""
        lengths = self.config.with_lengths(self.training.epochs)
        full, seed = self.training.epochs, self.seed + CHEAP_SEED
        budgets = (
            *(Run(kind="fraction", epochs=full, seed=seed, fraction=fraction) for fraction in lengths.fractions),
            *(Run(kind="small", epochs=full, seed=seed, scale=scale) for scale in lengths.scales),
            *(Run(kind="brief", epochs=epochs, seed=seed) for epochs in lengths.brief_epochs or ()),
            *(Run(kind="inherit", epochs=epochs, seed=seed) for epochs in lengths.inherit_epochs),
        )
        cheap = [replace(budget, digest=digest) for budget in budgets for digest in self.by_digest]
        shared = [
            Run(kind="shared", epochs=epochs, seed=seed + network, norm=norm)
            for epochs in sorted(lengths.shared_epochs or (), reverse=True)
            for network in range(lengths.networks)
            for norm in self.space.norm
        ]
        soon = [run for run in cheap if run.kind == "brief"]
        rest = [*shared, *self.truth, *(run for run in cheap if run.kind != "brief")]
        return [*sorted(soon, key=lambda run: run.effort), *sorted(rest, key=lambda run: -run.effort)]


def make_task(
    space: SearchSpace,
    data: DataConfig,
    summary: DataSummary,
    training: TrainingConfig,
    *,
    config: CalibrationConfig | None = None,
    seed: int = 0,
) -> CalibrationTask:
    """The calibration of a space on a data set; ``space`` is put on its classes and channels.

    Args:
        summary: of ``data``.

    Raises:
        UserError: fewer architectures or seeds than a calibration can speak of, or ``init_from``.
    """
    config = config or CalibrationConfig()
    if training.init_from is not None:
        raise UserError("training.init_from: the networks of a calibration start from scratch; calibrate without it")
    space = space.on(num_classes=summary.num_classes, in_chans=summary.in_chans)
    for name, got, least in (
        ("architectures", min(config.architectures, space.size), MIN_ARCHITECTURES),
        ("seeds", config.seeds, MIN_SEEDS),
    ):
        if got < least:
            raise UserError(f"calibrate.{name}: expected at least {least}, got {got}")
    return CalibrationTask(
        space=space,
        data=data,
        fingerprint=summary.fingerprint,
        training=training,
        config=config,
        architectures=spread_sample(space, config.architectures, seed),
        seed=seed,
    )
