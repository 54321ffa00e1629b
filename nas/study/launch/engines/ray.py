"""Workers as actors of a Ray cluster, each of which holds a share of a GPU or a CPU core.

An actor runs one worker process and tells how it goes. Nothing of the study passes through Ray: an actor that is
lost with its node is submitted anew, and the study's database hands the trial of the lost worker on.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from nas.errors import UserError
from nas.measurement import OutOfMemory
from nas.study.launch.engines import Request
from nas.study.launch.engines.local import HAND_BACK_S, LocalWorkers, raise_as_said
from nas.study.run.checkpoints import ROOT_VARIABLE, checkpoint_root
from nas.study.store.reader import Study
from nas.study.store.urls import absolute_url, redact, sqlite_path

ANSWER_S = 10.0
"""Time that actors have to answer when all of it ends."""
MAX_LOSSES = 20
"""Actors lost in a row, without a sign of life of any, after which the cluster counts as unusable."""
LOST = -1
"""Stands for the exit code of a worker that was lost with its actor."""
SHARE_STEP = 10_000
"""Ray counts resources in steps of one ten-thousandth."""


class RayEngine:
    """Starts actors in the cluster that runs on this machine or that RAY_ADDRESS names, else in one of its own."""

    def __init__(self, request: Request) -> None:
        # Ray would pack the working directory and start `uv run` on every node where we were started with it.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if request.devices[0] not in ("auto", "cpu", "cuda"):
            raise UserError("--devices: Ray deals out the GPUs of its cluster; expected auto, cpu or cuda")
        resources = _connect()
        num_cpus, num_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        on_gpu = request.devices == ("cuda",) or (request.devices == ("auto",) and num_gpus > 0)
        self.per_gpu = (request.per_device or 1) if on_gpu else 0
        """Workers that share a GPU; 0 for workers that use a CPU core each."""
        if on_gpu:
            capacity, what = num_gpus * self.per_gpu, f"{num_gpus} GPUs of the Ray cluster"
        else:
            capacity, what = min(num_cpus, request.per_device or num_cpus), f"{num_cpus} CPU cores of the Ray cluster"
        self.num_workers = request.count(capacity, what)

    def check(self, url: str) -> None:
        """`UserError` for an SQLite file that some of the nodes could not see."""
        num_nodes = _num_nodes()
        if sqlite_path(url) is not None and num_nodes > 1:
            raise UserError(
                f"{redact(url)}: the Ray cluster has {num_nodes} nodes, which cannot share an SQLite file; "
                "use --storage postgresql://USER:PASSWORD@HOST/NAME"
            )

    def start(self, study: Study, count: int, deadline: float | None) -> "RayWorkers":
        """``count`` actors; raises what `check` does."""
        self.check(study.url)
        return RayWorkers(
            url=absolute_url(study.url),
            name=study.name,
            count=count,
            per_gpu=self.per_gpu,
            deadline=deadline,
            environment={ROOT_VARIABLE: str(checkpoint_root(study.url).resolve())},
        )


def _connect() -> dict[str, float]:
    """Join or start a cluster; returns its resources."""
    import ray

    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"--engine ray: no cluster: {' '.join(str(error).split())}") from error
    return dict(ray.cluster_resources())


def _num_nodes() -> int:
    import ray

    return sum(bool(node["Alive"]) for node in ray.nodes())


class _Host:
    """The actor: one worker process on whatever node Ray has chosen."""

    def __init__(self, workers: LocalWorkers, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._workers = workers.__enter__()

    def poll(self) -> tuple[bool, tuple[int, str] | None]:
        """Whether the worker runs, and what it said if it did not end well."""
        self._workers.mend()
        return self._workers.num_running > 0, self._workers.failure()

    def stop(self) -> set[str]:
        """Let the worker put its trial back; returns the id of one that did not in time."""
        self._workers.stop()
        return self._workers.excused


@dataclass
class _Seat:
    """One of the workers that are wanted, whichever actor holds its place now."""

    actor: Any
    answer: Any
    """What the actor was asked last; it does not come before the actor has found a place."""
    running: bool = True
    failure: tuple[int, str] | None = None


@dataclass
class RayWorkers:
    """Actors on one study; those that are lost are submitted anew."""

    url: str
    name: str
    count: int
    per_gpu: int
    """Workers that share a GPU; 0 for workers that use a CPU core each."""
    deadline: float | None
    environment: Mapping[str, str]
    excused: set[str] = field(default_factory=set)
    _seats: list[_Seat] = field(default_factory=list)
    _losses: int = 0

    def __enter__(self) -> Self:
        self._seats = [self._submit() for _ in range(self.count)]
        return self

    def _submit(self) -> _Seat:
        import ray

        shares: dict[str, float] = {"num_cpus": 1}
        if self.per_gpu:
            shares = {"num_gpus": 1 if self.per_gpu == 1 else SHARE_STEP // self.per_gpu / SHARE_STEP}
        device = "cuda" if self.per_gpu else "cpu"
        shared = self.per_gpu > 1
        worker = LocalWorkers(self.url, self.name, (device,), self.deadline, threads=1, shared=shared, stay=False)
        actor = ray.remote(_Host).options(max_restarts=0, **shares).remote(worker, self.environment)
        return _Seat(actor, actor.poll.remote())

    @property
    def num_running(self) -> int:
        """Actors whose worker runs, or that wait for a place."""
        for seat in self._seats:
            if seat.running:
                self._hear(seat)
        return sum(seat.running for seat in self._seats)

    def _hear(self, seat: _Seat) -> None:
        """Take an actor's answer, if it has come."""
        import ray

        if not ray.wait([seat.answer], timeout=0)[0]:
            return
        try:
            seat.running, seat.failure = ray.get(seat.answer)
        except ray.exceptions.RayActorError as error:
            seat.running, seat.failure = False, (LOST, " ".join(str(error).split()))
            self._losses += 1
        else:
            self._losses = 0
        if seat.running:
            seat.answer = seat.actor.poll.remote()

    def mend(self) -> list[str]:
        """Submit lost actors anew, and fewer to a GPU whose memory ran out."""
        said = []
        for number, seat in enumerate(self._seats):
            code = seat.failure[0] if seat.failure is not None else 0
            if code == OutOfMemory.exit_code:
                self._end(seat)  # its share is needed for the next, which is larger
                self.per_gpu = max(1, self.per_gpu - 1)
                said.append(f"out of memory: {self.per_gpu} to a GPU from now on; the trial waits again")
            elif code == LOST and self._losses < MAX_LOSSES:
                said.append("a Ray worker was lost; submitted anew, nothing is lost")
            else:
                continue
            self._seats[number] = self._submit()
        return said

    def _end(self, seat: _Seat) -> None:
        import ray

        ray.kill(seat.actor)

    def raise_failure(self) -> None:
        """When all have ended and one did not end well, raise what it said last."""
        failure = next((seat.failure for seat in self._seats if seat.failure is not None), None)
        if not self.num_running and failure is not None:
            raise_as_said(*failure)

    def __exit__(self, *_: object) -> None:
        import ray

        answers = [seat.actor.stop.remote() for seat in self._seats]
        ready, _late = ray.wait(answers, num_returns=len(answers), timeout=HAND_BACK_S + ANSWER_S)
        for answer in ready:
            try:
                self.excused |= ray.get(answer)
            except ray.exceptions.RayActorError:
                continue  # lost with its worker, whose trial is swept
        for seat in self._seats:
            self._end(seat)
        ray.shutdown()
