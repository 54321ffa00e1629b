"""Brief training: a schedule made for few epochs, rather than the beginning of a long one."""

from nas.training.config import TrainingConfig

WARMUP_SHARE = 0.2
"""Largest share of a brief run that warms up; the cosine needs the rest."""


def brief_config(full: TrainingConfig, epochs: int) -> TrainingConfig:
    """The full training's settings for ``epochs``: the warm-up keeps its share, and at most `WARMUP_SHARE`."""
    share = min(full.warmup_epochs / full.epochs, WARMUP_SHARE)
    return full.model_copy(update={"epochs": epochs, "warmup_epochs": epochs * share})
