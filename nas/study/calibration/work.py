"""Doing the runs of a calibration, as one of its workers."""

import hashlib
from dataclasses import replace
from functools import partial
from statistics import fmean

from optuna.trial import Trial, TrialState

from nas.errors import NasError
from nas.estimate.calibration.runner import Runner
from nas.estimate.calibration.runs import Result, Run
from nas.measurement import EpochRecord, Outcome
from nas.study.calibration.task import stored_task
from nas.study.optuna_private import id_of
from nas.study.run.checkpoints import checkpoint_root
from nas.study.run.stop import StopFlag
from nas.study.run.training import Training
from nas.study.run.worker import Worker
from nas.study.store.calibrations import CalibrationLedger
from nas.study.store.reader import Study, open_study

COMPLETE = Outcome.COMPLETE.value
THREADS = 1
"""CPU threads of a worker unless the study file says otherwise: what a run costs is then comparable."""


class CalibrationWorker(Worker):
    """Does runs where another worker trains candidates."""

    def __init__(self, calibration: Study, training: Training, *, stop: StopFlag, worker_id: str) -> None:
        """Take part in a calibration.

        Args:
            training: has opened its data.
        """
        super().__init__(calibration, training, stop=stop, worker_id=worker_id)
        self.training = training
        self.task = replace(stored_task(calibration), training=training.training)
        self.results = CalibrationLedger(self.engine, calibration.study_id, worker_id)
        self.runner = Runner(
            self.task,
            folder=checkpoint_root(calibration.url) / "calibration",
            data=training.data,
            should_stop=stop,
        )
        self._by_key = {run.key: run for run in self.task.runs}
        self._keys = calibration.runs

    def _do(self, trial: Trial) -> None:
        run = self._run_of(trial)
        digest = hashlib.sha256(f"{trial.number} {run.key}".encode()).hexdigest()[:16]
        self.results.begin(id_of(trial), digest)
        result = self.results.result(self.task.digest, run.key)
        if result is None:
            result = self._result(trial, run, digest)
        self._tell_result(trial, result)
        self._clean()

    def _run_of(self, trial: Trial) -> Run:
        """What a trial does; `NasError` where the calibration has no run of its number."""
        if trial.number >= len(self._keys):  # another launcher may have added some
            self._keys = open_study(self.url, self._record.name).runs
        if trial.number >= len(self._keys):
            raise NasError(
                f"{self._record.name}: expected trials 0 to {len(self._keys) - 1}, one a run, but there is a trial "
                f"{trial.number}, which another program has made: delete it"
            )
        return self._by_key[self._keys[trial.number]]

    def _result(self, trial: Trial, run: Run, digest: str) -> Result:
        """Do a run and store what it gave; goes on from the checkpoint of an attempt that was broken off."""

        def record(epoch: EpochRecord) -> None:
            self.ledger.record_epoch(id_of(trial), run.seed, epoch)

        checkpoint = self.checkpoints.path(trial.number)
        done = self.training.robust(
            partial(self.runner.do, run, on_epoch=record, checkpoint=checkpoint),
            checkpoint,
        )
        self.results.record(id_of(trial), self.task.digest, run.key, done.result)
        if done.measurement is not None:
            self.ledger.finish(id_of(trial), digest, done.measurement)
        return done.result

    def _tell_result(self, trial: Trial, result: Result) -> None:
        """End the trial with what its run gave: the accuracy, or the mean of the scores on a shared network."""
        if "failed" in result:
            self.ledger.fail(id_of(trial), result["failed"])
        if "failed" in result or result.get("outcome", COMPLETE) != COMPLETE:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif "scores" in result:
            self.study.tell(trial, fmean(accuracy for accuracy, _ in result["scores"].values()))
        else:
            self.study.tell(trial, result["accuracy"][-1])
