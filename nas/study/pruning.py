"""Optuna's pruners by the names that a study file gives."""

import math

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from nas.study.config import PrunerConfig

WARMUP_SHARE = 1 / 3
"""Of a full training, before the median pruner may stop it (docs/evidence.md)."""


def make_pruner(config: PrunerConfig, epochs: int) -> BasePruner:
    """The pruner of a study of one objective whose trials run for ``epochs``; of several see `nas.study.rungs`."""
    if config.name == "median":
        warmup = math.ceil(WARMUP_SHARE * epochs) if config.warmup_epochs is None else config.warmup_epochs
        return MedianPruner(n_startup_trials=config.startup_trials, n_warmup_steps=warmup)
    if config.name == "asha":
        return SuccessiveHalvingPruner(min_resource=config.min_epochs, reduction_factor=config.reduction_factor)
    if config.name == "hyperband":
        return HyperbandPruner(
            min_resource=config.min_epochs, max_resource=epochs, reduction_factor=config.reduction_factor
        )
    return NopPruner()
