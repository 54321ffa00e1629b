"""Worker processes of this machine."""

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from nas.errors import NasError, UserError
from nas.machine import cpu_count
from nas.measurement import OutOfMemory
from nas.study.launch import processes
from nas.study.launch.engines import Request
from nas.study.launch.processes import SERVER_LOST
from nas.study.launch.worker_log import WorkerLog
from nas.study.store.reader import Study
from nas.study.store.studies import count_death, deaths_so_far
from nas.study.store.trials import new_worker_id
from nas.study.store.urls import absolute_url

HAND_BACK_S = 1.5
"""Time that workers have to put their trials back after Ctrl-C."""
MAX_PER_CORE = 4
"""Workers on a CPU core, beyond which they only wait for each other; --per-device says otherwise."""
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Where Linux shows that there may be a GPU; without them torch is not asked, which takes seconds to import."""
INTERRUPTED = 130
"""Exit code of a worker that was told to stop."""


def deal(request: Request) -> tuple[str, ...]:
    """The torch device of each worker, dealt out in turn; `UserError` where they do not fit."""
    devices = _present(request.devices)
    on_cpu = devices[0] in ("auto", "cpu")
    each = request.per_device or (MAX_PER_CORE * cpu_count() if on_cpu else 1)
    if request.workers == "auto" and on_cpu and request.per_device is None:
        each = cpu_count()
    what = f"{cpu_count()} CPU cores" if on_cpu else f"{len(devices)} device{'s' if len(devices) > 1 else ''}"
    count = request.count(len(devices) * each, what)
    return tuple(devices[number % len(devices)] for number in range(count))


def _present(devices: tuple[str, ...]) -> tuple[str, ...]:
    """All GPUs where ``auto`` or ``cuda`` is asked for and there are some."""
    if devices[0] not in ("auto", "cuda") or not any(Path(path).exists() for path in GPU_DRIVERS):
        return devices
    return tuple(f"cuda:{number}" for number in range(processes.ask(_num_gpus))) or devices


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _resolve(devices: Sequence[str]) -> None:
    from nas.training.device import resolve_device

    for device in devices:
        resolve_device(device)


class LocalEngine:
    """Starts processes of this machine, as many as its devices take."""

    def __init__(self, request: Request) -> None:
        self._devices = deal(request)
        self.num_workers = len(self._devices)

    def check(self, url: str) -> None:
        """`UserError` for a device that this machine lacks; torch is asked only where one is named."""
        if named := sorted(set(self._devices) - {"auto", "cpu"}):
            processes.ask(_resolve, named)

    def start(self, study: Study, count: int, deadline: float | None) -> "LocalWorkers":
        """The first ``count`` of the workers that fit."""
        return LocalWorkers(absolute_url(study.url), study.name, self._devices[:count], deadline)


@dataclass
class LocalWorkers:
    """Worker processes, each in a session of its own so that Ctrl-C reaches only the launcher."""

    url: str
    name: str
    devices: Sequence[str]
    """The device of each worker. Where workers share one and its memory runs out, fewer share it from then on."""
    deadline: float | None = None
    threads: int | None = None
    """CPU threads of each; None: the cores are shared out."""
    shared: bool = False
    """Whether workers elsewhere use the same device: one that runs out of its memory is left to the caller."""
    stay: bool = True
    """Whether workers with nothing left to draw wait for what others may leave."""
    excused: set[str] = field(default_factory=set)
    """Ids of workers that ended without putting their trials back, and not through any fault of the trials."""
    _processes: dict[str, BaseProcess] = field(default_factory=dict)
    _logs: dict[str, WorkerLog] = field(default_factory=dict)
    _dealt: dict[str, str] = field(default_factory=dict)
    _deaths_before: dict[str, int] = field(default_factory=dict)
    _limits: Counter[str] = field(default_factory=Counter)
    """Workers that may share each device."""

    def __enter__(self) -> Self:
        self._limits.update(self.devices)
        try:
            for device in self.devices:
                self._start(device)
        except BaseException:  # Ctrl-C too: no worker outlives its launcher, and the error goes on
            self.__exit__()
            raise
        return self

    def _start(self, device: str) -> None:
        worker_id, threads = new_worker_id(), self.threads or max(1, cpu_count() // len(self.devices))
        join = {
            "name": self.name,
            "url": self.url,
            "worker_id": worker_id,
            "device": device,
            "threads": threads,
            "shared": self.shared or self._limits[device] > 1,
            "deadline": self.deadline,
            "stay": self.stay,
        }
        self._dealt[worker_id] = device
        self._deaths_before[worker_id] = deaths_so_far(self.url, self.name)
        self._logs[worker_id] = log = WorkerLog()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._processes[worker_id] = processes.start(_work, join, environment, log)

    def mend(self) -> list[str]:
        """Start a new worker for each that a signal has ended, and fewer where a device's memory ran out.

        The trial that a killed worker held is taken up again or, if it kills worker after worker, failed.

        Raises:
            WorkersDie: workers are killed one after the other, whatever they do.
        """
        said = []
        ended = {key: process.exitcode for key, process in self._processes.items()}
        killed = [key for key, code in ended.items() if code is not None and (code < 0 or code == SERVER_LOST)]
        for key in killed:
            del self._processes[key]
            count_death(self.url, self.name, self._deaths_before[key])
            self._start(self._dealt[key])
        if killed:
            said.append(f"{_count(len(killed))} killed; started anew, nothing is lost")
        for key in [key for key, code in ended.items() if code == OutOfMemory.exit_code and not self.shared]:
            del self._processes[key]
            said.append(self._share_less(self._dealt[key]))
        return said

    def _share_less(self, device: str) -> str:
        self._limits[device] = limit = max(1, self._limits[device] - 1)
        if sum(self._dealt[key] == device for key in self._processes) < limit:
            self._start(device)
        return f"{device}: out of memory, shared by {limit} from now on; the trial waits again"

    def __exit__(self, *_: object) -> None:
        self.stop()
        for log in self._logs.values():
            log.close()

    @property
    def num_running(self) -> int:
        """Processes that have not ended."""
        return sum(process.is_alive() for process in self._processes.values())

    def failure(self) -> tuple[int, str] | None:
        """Exit code and last line of a worker that did not end well; None while some run and if all did."""
        if self.num_running:
            return None
        for worker_id, process in self._processes.items():
            if process.exitcode not in (None, 0, INTERRUPTED):
                return process.exitcode, self._logs[worker_id].last_line() or f"ended with code {process.exitcode}"
        return None

    def raise_failure(self) -> None:
        """When all have ended and one did not end well, raise what it said last."""
        if (failure := self.failure()) is not None:
            raise_as_said(*failure)

    def stop(self, limit_s: float = HAND_BACK_S) -> None:
        """Ask the workers to put their trials back; those that do not answer in time are killed and swept."""
        running = {key: process for key, process in self._processes.items() if process.is_alive()}
        for process in running.values():
            process.terminate()
        deadline = time.monotonic() + limit_s
        for worker_id, process in running.items():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
                self.excused.add(worker_id)
        # One that has ended by itself has said why; where the disk was full it could not put its trial back.
        self.excused |= {key for key, process in self._processes.items() if (process.exitcode or 0) >= 0}


def _work(join: dict[str, Any], environment: dict[str, str], log: WorkerLog) -> None:
    """What a worker process does; the end of ``log`` says why it failed."""
    if hasattr(os, "setsid"):
        os.setsid()
    log.take_output()
    os.environ.update(environment)
    from nas.study.launch.joining import join_study

    try:
        told_to_stop = join_study(**join, orphaned=processes.orphan_alarm())
    except NasError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    sys.exit(INTERRUPTED if told_to_stop else 0)


def raise_as_said(code: int, said: str) -> None:
    """Raise what a worker that ended with this code has said."""
    raise (UserError if code == UserError.exit_code else NasError)(said)


def _count(number: int) -> str:
    return "1 worker was" if number == 1 else f"{number} workers were"
