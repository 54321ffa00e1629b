"""Optuna's pruners by the names that a study file gives."""

import math

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from nas.study.config import PrunerConfig

WARMUP_SHARE = 1 / 3
"""Of a full training, before the median pruner may stop it (docs/evidence.md)."""


def make_pruner(config: PrunerConfig, epochs: int) -> BasePruner:
    """The pruner of a study of one objective whose trials run for ``epochs``; of several see `rungs`."""
    if config.name == "median":
        return MedianPruner(n_startup_trials=config.startup_trials, n_warmup_steps=first_look(config, epochs))
    if config.name == "asha":
        return SuccessiveHalvingPruner(min_resource=config.min_epochs, reduction_factor=config.reduction_factor)
    if config.name == "hyperband":
        return HyperbandPruner(
            min_resource=config.min_epochs, max_resource=epochs, reduction_factor=config.reduction_factor
        )
    return NopPruner()


def first_look(config: PrunerConfig, epochs: int) -> int:
    """Epochs that every trial runs before the pruner of a study of one objective need be asked."""
    if config.name == "none":
        return epochs
    if config.name != "median":
        return config.min_epochs
    return math.ceil(WARMUP_SHARE * epochs) if config.warmup_epochs is None else config.warmup_epochs
