"""The first part of a study with a cheap estimator: scoring candidates, so that only the best are trained."""

import time

from optuna.trial import Trial

from nas.architecture import Architecture
from nas.estimate.shared import SharedEnsemble, train_ensemble
from nas.measurement import Interrupted
from nas.space.space import SearchSpace
from nas.study.checkpoints import checkpoint_root
from nas.study.objective import Training
from nas.study.objectives import cost_quantities
from nas.study.records import Study
from nas.study.worker import StopFlag, Worker


def score_candidates(study: Study, training: Training, *, stop: StopFlag, worker_id: str) -> None:
    """Work on the candidates of a study until all are scored, by this worker and the others, or ``stop`` is set.

    Args:
        study: of the candidates (`Study.candidates`).
        training: measures what ``study`` asks for.
    """
    if training.config.estimate.by != "shared":
        worker = Worker(study, training, stop=stop, worker_id=worker_id)
    else:
        try:
            ensemble = _ensemble(study, training, stop)
        except Interrupted:
            return
        worker = ScoringWorker(study, training, ensemble, stop=stop, worker_id=worker_id)
    worker.run(stay=True)


def _ensemble(study: Study, training: Training, stop: StopFlag) -> SharedEnsemble:
    return train_ensemble(
        SearchSpace.from_dict(study.space),
        training.data,
        training.training,
        training.config.estimate,
        seed=training.config.seed,
        folder=checkpoint_root(study.url) / "shared",
        should_stop=stop,
    )


class ScoringWorker(Worker):
    """Scores candidates on shared weights instead of training them."""

    def __init__(
        self, study: Study, training: Training, ensemble: SharedEnsemble, *, stop: StopFlag, worker_id: str
    ) -> None:
        super().__init__(study, training, stop=stop, worker_id=worker_id)
        self.ensemble = ensemble

    def _measure(self, trial: Trial, architecture: Architecture) -> None:
        started = time.perf_counter()
        score = self.ensemble.score(architecture)
        self.ledger.record_score(trial._trial_id, score, time.perf_counter() - started)
        known = self.ledger.cost(trial._trial_id)
        values = {"val_accuracy": score.value(self.config.estimate.measure)}
        values |= cost_quantities(known[0]) if known else {}
        self.study.tell(trial, self.goals.values(values))
