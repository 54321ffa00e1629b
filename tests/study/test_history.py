"""What TPE keeps of the trials before: each read once, unless it goes on."""

from dataclasses import dataclass, field

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.study.search.history import NOT_ASKED, History, Standing

KNOWN = {"shape": CategoricalDistribution(["round", "flat"]), "size": CategoricalDistribution([1, 2, 3])}


@dataclass
class Stub:
    """As much of a study as is read."""

    trials: list[FrozenTrial] = field(default_factory=list)
    directions: tuple[StudyDirection, ...] = (StudyDirection.MAXIMIZE,)
    looks: int = 0

    def get_trials(self, deepcopy: bool) -> list[FrozenTrial]:
        self.looks += 1
        return self.trials

    def put(self, state: TrialState, number: int | None = None, **more: object) -> None:
        """A trial as a storage would hand it out: another object whenever something has changed."""
        params = more.pop("params", {})
        number = len(self.trials) if number is None else number
        trial = create_trial(
            state=state,
            params=params,
            distributions={name: KNOWN[name] for name in params},
            **more,  # type: ignore[arg-type]
        )
        trial.number = number
        self.trials[number : number + 1] = [trial]


def read(history: History, study: Stub) -> list[int]:
    history.next_trial()
    history.read(study)  # type: ignore[arg-type]
    return history.standings.tolist()


def test_how_each_trial_counts() -> None:
    study, history = Stub(), History(KNOWN)
    study.put(TrialState.COMPLETE, value=0.5, params={"shape": "flat", "size": 3})
    study.put(TrialState.PRUNED, value=0.2, params={"shape": "round"}, intermediate_values={1: 0.1, 2: 0.2})
    study.put(TrialState.COMPLETE, value=0.9, constraints={"params": 2.0, "macs": -1.0})
    study.put(TrialState.RUNNING, params={"size": 2})
    study.put(TrialState.FAIL)
    study.put(TrialState.WAITING)
    expected = [Standing.COMPLETE, Standing.PRUNED, Standing.INFEASIBLE, Standing.RUNNING, Standing.NONE, Standing.NONE]
    assert read(history, study) == expected
    assert history.answers[:2].tolist() == [[1, 2], [0, NOT_ASKED]]
    assert history.losses[:3].tolist() == [[-0.5, 0.0], [-2.0, -0.2], [2.0, 0.0]]


def test_a_trial_that_goes_on_is_read_again() -> None:
    study, history = Stub(), History(KNOWN)
    study.put(TrialState.PRUNED, value=0.1, params={"size": 1})
    assert read(history, study) == [Standing.PRUNED]
    study.put(TrialState.WAITING, 0, params={"size": 1})
    assert read(history, study) == [Standing.NONE]
    study.put(TrialState.RUNNING, 0, params={"size": 1})
    assert read(history, study) == [Standing.RUNNING]
    study.put(TrialState.COMPLETE, 0, value=0.7, params={"size": 1})
    assert read(history, study) == [Standing.COMPLETE]
    assert history.losses[0, 0] == -0.7


def test_a_draw_reads_the_study_once() -> None:
    study, history = Stub(), History(KNOWN)
    read(history, study)
    history.read(study)  # type: ignore[arg-type]
    assert study.looks == 1
    read(history, study)
    assert study.looks == 2


def test_the_tables_grow() -> None:
    study, history = Stub(directions=(StudyDirection.MINIMIZE,) * 3), History(KNOWN)
    for number in range(70):
        study.put(TrialState.COMPLETE, values=[number, 1.0, 2.0], params={"size": 1 + number % 3})
        if number % 10 == 0:
            read(history, study)
    assert read(history, study) == [Standing.COMPLETE] * 70
    assert history.losses[:, 0].tolist() == list(range(70))
    assert np.unique(history.answers[:, 1]).tolist() == [0, 1, 2]
