"""Searches that train nothing: the study's own samplers and pruners, on learning curves that are known.

One worker, no guard and no landmarks; everything else is drawn and stopped as in a search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna

from nas.architecture import Architecture
from nas.errors import UserError
from nas.space.space import SearchSpace
from nas.study.config import PrunerConfig
from nas.study.optuna_private import id_of
from nas.study.search.pruners import make_pruner
from nas.study.search.sampler import FusionSampler, SpaceExhausted, suggest

Curves = Mapping[Architecture, Sequence[float]]
"""Score after each epoch, by canonical architecture; all of one length."""


@dataclass(frozen=True, kw_only=True)
class ReplayedTrial:
    """One trial of a replay."""

    architecture: Architecture
    """In its canonical form."""
    num_epochs: int
    """That were run; fewer than a curve has where the pruner stopped it."""
    score: float | None
    """After the last epoch; None for a trial that was stopped."""


def replay(
    space: SearchSpace, curves: Curves, *, sampler: str, pruner: PrunerConfig, num_epochs: int, seed: int
) -> tuple[ReplayedTrial, ...]:
    """Search until ``num_epochs`` are spent, those of stopped trials included, or every curve has been drawn.

    A proposal outside ``curves`` is drawn again, as one that another trial owns is, and costs nothing. The last
    trial may run beyond ``num_epochs``.

    Raises:
        UserError: the sampler cannot draw from the space, or there is no curve.
    """
    if not curves:
        raise UserError("replay: expected learning curves to play back, got none")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    owned: dict[int, Architecture] = {}
    free = set(curves)

    def claim(trial_id: int, architecture: Architecture) -> bool:
        known = architecture.canonical()
        if known not in free:
            return False
        free.remove(known)
        owned[trial_id] = known
        return True

    length = len(next(iter(curves.values())))
    study = optuna.create_study(
        direction="maximize",
        sampler=FusionSampler(space, sampler, seed, claim=claim, owned=owned.get),
        pruner=make_pruner(pruner, length),
    )
    trials: list[ReplayedTrial] = []
    spent = 0
    while free and spent < num_epochs:
        try:
            trial = study.ask()
            suggest(trial, space)
        except SpaceExhausted:  # what is free lies outside the space
            break
        architecture = owned[id_of(trial)]
        epochs, score = play(trial, curves[architecture])
        study.tell(trial, score, state=None if score is not None else optuna.trial.TrialState.PRUNED)
        trials.append(ReplayedTrial(architecture=architecture, num_epochs=epochs, score=score))
        spent += epochs
    return tuple(trials)


def play(trial: optuna.Trial, curve: Sequence[float]) -> tuple[int, float | None]:
    """Epochs until the pruner or the end, and the final score where it came to that."""
    for epoch, value in enumerate(curve[:-1], start=1):
        trial.report(value, epoch)
        if trial.should_prune():
            return epoch, None
    trial.report(curve[-1], len(curve))
    return len(curve), curve[-1]
