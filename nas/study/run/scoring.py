"""The first part of a study with a cheap estimator: scoring candidates, so that only the best are trained."""

import time
from abc import ABC, abstractmethod

from optuna.trial import Trial

from nas.architecture import Architecture
from nas.estimate.predictor import Predictor
from nas.estimate.shared_ensemble import SharedEnsemble, train_ensemble
from nas.measurement import Interrupted
from nas.space.space import SearchSpace
from nas.study.goals import cost_quantities
from nas.study.optuna_private import id_of
from nas.study.run.checkpoints import checkpoint_root, make_checkpoint_folder
from nas.study.run.stop import StopFlag
from nas.study.run.training import Measure, Training
from nas.study.run.worker import Worker
from nas.study.store.reader import Study


def score_candidates(
    study: Study,
    training: Training,
    *,
    stop: StopFlag,
    worker_id: str,
    max_trials: int | None = None,
    stay: bool = True,
) -> int:
    """Work on the candidates of a study until all are scored or ``stop`` is set; returns how many this worker scored.

    Args:
        study: of the candidates (`Study.candidates`).
        training: measures what ``study`` asks for.
        max_trials: leave after this many.
        stay: with nothing left to score, wait for what other workers may leave.
    """
    worker: Worker
    match training.config.estimate.by:
        case "shared":
            try:
                ensemble = _ensemble(study, training, stop)
            except Interrupted:
                return 0
            worker = SharedWorker(study, training, ensemble, stop=stop, worker_id=worker_id)
        case "predictor":
            worker = PredictingWorker(study, training, stop=stop, worker_id=worker_id)
        case _:
            worker = Worker(study, training, stop=stop, worker_id=worker_id)
    return worker.run(max_trials, stay=stay)


def _ensemble(study: Study, training: Training, stop: StopFlag) -> SharedEnsemble:
    folder = checkpoint_root(study.url) / "shared"
    make_checkpoint_folder(folder, study.url)
    return train_ensemble(
        SearchSpace.from_dict(study.space),
        training.data,
        training.training,
        training.config.estimate,
        seed=training.config.seed,
        folder=folder,
        should_stop=stop,
    )


class ScoringWorker(Worker, ABC):
    """Scores candidates instead of training them."""

    @abstractmethod
    def score(self, trial_id: int, architecture: Architecture) -> float:
        """What to rank by; higher is better."""

    def _measure(self, trial: Trial, architecture: Architecture) -> None:
        values = {"val_accuracy": self.score(id_of(trial), architecture)}
        known = self.ledger.cost(id_of(trial))
        values |= cost_quantities(known[0]) if known else {}
        self.study.tell(trial, self.goals.values(values))


class SharedWorker(ScoringWorker):
    """Scores on shared weights."""

    def __init__(
        self, study: Study, measure: Measure, ensemble: SharedEnsemble, *, stop: StopFlag, worker_id: str
    ) -> None:
        super().__init__(study, measure, stop=stop, worker_id=worker_id)
        self.ensemble = ensemble

    def score(self, trial_id: int, architecture: Architecture) -> float:
        """By the mean over the networks, which is stored beside it."""
        started = time.perf_counter()
        score = self.ensemble.score(architecture)
        self.ledger.record_score(trial_id, score, time.perf_counter() - started)
        return score.value(self.config.estimate.measure)


class PredictingWorker(ScoringWorker):
    """Scores by the predictor that is stored with the study, so that all workers have the same."""

    def __init__(self, study: Study, measure: Measure, *, stop: StopFlag, worker_id: str) -> None:
        super().__init__(study, measure, stop=stop, worker_id=worker_id)
        self.predictor = Predictor(**study.predictor)

    def score(self, trial_id: int, architecture: Architecture) -> float:
        """By the accuracy that is to be expected."""
        return self.predictor.predict(architecture)
