"""Drawing as an objective of Optuna's own would, in studies that have no tables of ours."""

from optuna import Trial

from nas.architecture import Architecture
from nas.space.space import SearchSpace


def suggest(trial: Trial, space: SearchSpace) -> Architecture:
    """The architecture of a trial, whose parameters Optuna stores one by one."""
    return space.decode(lambda name, options: trial.suggest_categorical(name, list(options)))
