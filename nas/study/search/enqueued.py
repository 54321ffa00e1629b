"""Networks that the user has asked for with Optuna's ``enqueue_trial``."""

from optuna.trial import FrozenTrial

from nas.architecture import Architecture
from nas.errors import UserError
from nas.space.space import SearchSpace
from nas.space.vocabulary import Option
from nas.study.optuna_private import enqueued


def enqueued_network(space: SearchSpace, trial: FrozenTrial) -> Architecture | None:
    """The network that a trial was enqueued as; None where it was not enqueued.

    Raises:
        UserError: what was enqueued is no network of the space.
    """
    answers: dict[str, Option] = enqueued(trial)

    def choose(name: str, options: tuple[Option, ...]) -> Option:
        if name not in answers or answers[name] not in options:
            known = ", ".join(map(str, options))
            raise UserError(f"{name}: expected one of {known}, got {answers.get(name, 'nothing')!r}")
        return answers[name]

    return space.decode(choose) if answers else None
