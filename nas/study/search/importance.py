"""Importance of a space's choices by Optuna's fANOVA (F. Hutter, H. Hoos, K. Leyton-Brown, 2014)."""

from collections.abc import Mapping

import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import create_trial

from nas.architecture import Architecture
from nas.space.space import SearchSpace
from nas.study.search.sampler import distributions


def fanova(space: SearchSpace, scores: Mapping[Architecture, float], *, seed: int = 0) -> dict[str, float]:
    """Share of the explained variance by question of the space, largest first; the shares add up to 1.

    A random forest finds structure in noise too: hold the shares against a test that knows chance.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    known = distributions(space)
    for architecture, score in scores.items():
        params = space.encode(architecture)
        if params is not None:
            asked = {name: known[name] for name in params}
            study.add_trial(create_trial(params=dict(params), distributions=dict(asked), value=score))
    return optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
