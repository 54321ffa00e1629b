"""Workers as jobs of Slurm, submitted with submitit.

Shortly before its time limit, or when it is preempted, Slurm signals a job. Its workers then put their trials back,
and the job is queued again; whichever worker is free takes the trials up from their checkpoints.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any, Self

from submitit import AutoExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.helpers import DelayedSubmission, environment_variables

from nas.errors import UserError
from nas.study.launch.engines import Request
from nas.study.launch.engines.local import LocalWorkers, raise_as_said
from nas.study.run.checkpoints import ROOT_VARIABLE, checkpoint_root
from nas.study.store.reader import Study
from nas.study.store.urls import STORAGE_VARIABLE, absolute_url, redact, sqlite_path

POLL_S = 0.5
TIME_LIMIT_MIN = 240
"""Of a job; it is queued again until the study is done."""
JOB_HAND_BACK_S = 60.0
"""Time that workers have to put their trials back: submitit lets Slurm signal 90 s before the limit."""
MAX_REQUEUES = 10_000
MAX_LOSSES = 20
"""Jobs that ended without a word, after which the cluster counts as unusable."""
CANCEL_S = 30.0


class SlurmEngine:
    """Submits jobs of ``--per-device`` workers each; ``cluster=local`` runs them as processes of this machine."""

    def __init__(self, request: Request) -> None:
        if request.workers == "auto":
            raise UserError("--workers auto: nobody knows how many workers a cluster takes; expected a number")
        if request.devices[0] not in ("auto", "cpu", "cuda"):
            raise UserError("--devices: Slurm deals out the GPUs of its nodes; expected auto, cpu or cuda")
        self.num_workers = request.workers or request.usual
        self._device = request.devices[0]
        self._per_job = request.per_device or 1
        options = dict(request.options)
        self._cluster = options.pop("cluster", "slurm")
        if self._cluster not in ("slurm", "local"):
            raise UserError(f"--engine-set cluster={self._cluster}: expected slurm or local")
        self._parameters = _parameters(options, on_gpu=self._device == "cuda", per_job=self._per_job)

    def check(self, url: str) -> None:
        """`UserError` for an SQLite file, which nodes cannot share, for options that no job has, and without Slurm."""
        if self._cluster == "slurm" and sqlite_path(url) is not None:
            raise UserError(
                f"{redact(url)}: the nodes of a cluster cannot share an SQLite file; "
                "use --storage postgresql://USER:PASSWORD@HOST/NAME"
            )
        self._executor(Path())  # nothing is written before a job is submitted

    def start(self, study: Study, count: int, deadline: float | None) -> "SlurmWorkers":
        """Enough jobs for ``count`` workers; raises what `check` does."""
        self.check(study.url)
        job = WorkerJob(name=study.name, devices=(self._device,) * self._per_job, deadline=deadline)
        return SlurmWorkers(
            executor=self._executor(study.folder.resolve() / "slurm"),
            job=job,
            count=ceil(count / self._per_job),
            environment={
                STORAGE_VARIABLE: absolute_url(study.url),
                ROOT_VARIABLE: str(checkpoint_root(study.url).resolve()),
            },
        )

    def _executor(self, folder: Path) -> AutoExecutor:
        try:
            executor = AutoExecutor(folder, cluster=self._cluster, slurm_max_num_timeout=MAX_REQUEUES)
            executor.update_parameters(name="fusion-nas", **self._parameters)
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            raise UserError(f"--engine slurm: {' '.join(str(error).split())}") from error
        return executor


def _parameters(options: Mapping[str, str], *, on_gpu: bool, per_job: int) -> dict[str, Any]:
    """Options of the command line as submitit's parameters: numbers are numbers, ``time`` is in minutes."""
    values: dict[str, Any] = {key: int(text) if text.isdigit() else text for key, text in options.items()}
    minutes = values.pop("time", TIME_LIMIT_MIN)
    if not isinstance(minutes, int) or minutes < 1:
        raise UserError(f"--engine-set time={minutes}: expected whole minutes")
    usual = {"slurm_gpus_per_node": 1} if on_gpu and "gres" not in values else {}
    return {
        "timeout_min": minutes,
        "slurm_cpus_per_task": per_job,
        **usual,
        **{f"slurm_{key}": value for key, value in values.items()},
    }


@dataclass(kw_only=True)
class WorkerJob:
    """What runs in a job: some workers on its node, until the study is done or the job's time is over.

    The database's URL comes with the environment: a job's file can be read by whoever can read its folder.
    """

    name: str
    devices: tuple[str, ...]
    deadline: float | None
    _workers: LocalWorkers | None = None

    def __call__(self) -> tuple[int, str] | None:
        """Run the workers; returns what one of them said that did not end well."""
        url = os.environ[STORAGE_VARIABLE]
        with LocalWorkers(url, self.name, self.devices, self.deadline, stay=False) as workers:
            self._workers = workers
            while workers.num_running:
                time.sleep(POLL_S)
                workers.mend()
            return workers.failure()

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit when the time is nearly over: put the trials back and queue the job again."""
        if self._workers is not None:
            self._workers.stop(JOB_HAND_BACK_S)
        return DelayedSubmission(replace(self, _workers=None))


@dataclass
class SlurmWorkers:
    """Jobs on one study; those that end without a word are submitted anew."""

    executor: AutoExecutor
    job: WorkerJob
    count: int
    environment: Mapping[str, str]
    excused: set[str] = field(default_factory=set)
    """Always empty: what a job's workers could not put back is swept after the grace time."""
    _jobs: list[Any] = field(default_factory=list)
    _failures: list[tuple[int, str]] = field(default_factory=list)
    _num_lost: int = 0
    _num_replaced: int = 0

    def __enter__(self) -> Self:
        self._jobs = [self._submit() for _ in range(self.count)]
        return self

    def _submit(self) -> Any:
        with environment_variables(**self.environment):
            try:
                return self.executor.submit(self.job)
            except (FailedJobError, FailedSubmissionError) as error:
                raise UserError(f"--engine slurm: {' '.join(str(error).split())}") from error

    @property
    def num_running(self) -> int:
        """Jobs that wait or run."""
        for job in [job for job in self._jobs if job.done()]:
            self._jobs.remove(job)
            self._hear(job)
        return len(self._jobs)

    def _hear(self, job: Any) -> None:
        """Note what an ended job has said."""
        try:
            failure = job.result()
        except FailedJobError as error:
            failure = (1, f"a job failed: {str(error).strip().splitlines()[-1]}")
        except UncompletedJobError as error:
            self._num_lost += 1
            failure = (1, f"jobs are lost: {' '.join(str(error).split())}") if self._num_lost == MAX_LOSSES else None
        if failure is not None:
            self._failures.append(failure)

    def mend(self) -> list[str]:
        """Submit lost jobs anew."""
        said = []
        while self._num_replaced < min(self._num_lost, MAX_LOSSES - 1):
            self._jobs.append(self._submit())
            self._num_replaced += 1
            said.append("a job was lost; submitted anew, nothing is lost")
        return said

    def raise_failure(self) -> None:
        """When all have ended and one did not end well, raise what it said."""
        if not self.num_running and self._failures:
            raise_as_said(*self._failures[0])

    def __exit__(self, *_: object) -> None:
        for job in self._jobs:
            job.cancel(check=False)
        end = time.monotonic() + CANCEL_S
        while not all(job.done() for job in self._jobs) and time.monotonic() < end:
            time.sleep(POLL_S)
