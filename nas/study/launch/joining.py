"""Joining a stored study: what a worker process does from its first moment to its last."""

import signal
from collections.abc import Callable

import torch

from nas.study.calibration.work import THREADS, CalibrationWorker
from nas.study.confirm.train import TestedTraining, confirm_networks
from nas.study.launch.processes import TIME_LIMIT_SIGNALS, let_signals_through, place_sockets
from nas.study.run.scoring import score_candidates
from nas.study.run.stop import StopFlag
from nas.study.run.training import Training
from nas.study.run.worker import Worker
from nas.study.store.studies import open_own_study, study_to_work_on
from nas.study.store.trials import new_worker_id


def join_study(
    name: str,
    url: str,
    *,
    worker_id: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    shared: bool = False,
    max_trials: int | None = None,
    deadline: float | None = None,
    orphaned: Callable[[], bool] | None = None,
    stay: bool = True,
    stay_to_score: bool = True,
) -> bool:
    """Train trials of a study until it is done or a signal comes; returns whether a signal came.

    Args:
        shared: whether other workers use the device.
        max_trials: leave after this many trials, scores of candidates among them.
        deadline: moment after which the worker puts its trial back and leaves.
        orphaned: whether the process that wanted this worker is gone.
        stay: wait, with nothing left to draw, for what other workers may leave.
        stay_to_score: also while candidates are scored; when the others are done, there are trials to train.

    Raises:
        UserError: there is no such study, or it is a companion that is worked on by its parent's name.
    """
    stop, worker_id = StopFlag(orphaned=orphaned, deadline=deadline), worker_id or new_worker_id()
    for number in (signal.SIGINT, signal.SIGTERM, *TIME_LIMIT_SIGNALS):
        signal.signal(number, lambda *_: stop.set())
    let_signals_through()
    place_sockets()
    if threads is not None:
        torch.set_num_threads(threads)
    study = study_to_work_on(url, name)
    if study.confirms is not None:
        tested = TestedTraining(study, device=device, threads=threads, shared=shared)
        confirm_networks(study, tested, stop=stop, worker_id=worker_id, max_trials=max_trials, stay=stay)
        return stop() and deadline is None
    if study.calibrates is not None:
        training = Training(study, device=device, threads=THREADS, shared=shared)
        CalibrationWorker(study, training, stop=stop, worker_id=worker_id).run(max_trials, stay=stay)
        return stop() and deadline is None
    study = open_own_study(url, name)
    candidates = study.candidates()
    if candidates is not None and candidates.num_ended() < candidates.target:
        cheap = Training(candidates, device=device, threads=threads, shared=shared)
        scored = score_candidates(
            candidates, cheap, stop=stop, worker_id=worker_id, max_trials=max_trials, stay=stay_to_score
        )
        max_trials = None if max_trials is None else max_trials - scored
    if max_trials != 0 and (candidates is None or candidates.num_ended() >= candidates.target):
        training = Training(study, device=device, threads=threads, shared=shared)
        Worker(study, training, stop=stop, worker_id=worker_id).run(max_trials, stay=stay)
    return stop() and deadline is None
