"""Creating a study or joining a stored one, and running local workers on it."""

import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import sqlalchemy as sa

from nas.errors import NasError, StorageError, UserError
from nas.estimate.config import EstimateConfig
from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace
from nas.study import tables
from nas.study.config import RUNTIME_KEYS, StudyConfig
from nas.study.ledger import new_worker_id
from nas.study.records import Study, open_study
from nas.study.storage import (
    STORAGE_VARIABLE,
    close_storage,
    exclusive,
    explained,
    open_engine,
    open_storage,
    sqlite_path,
)

if TYPE_CHECKING:
    import optuna

    from nas.estimate.ranking import Calibration
    from nas.training.data import DataSummary

PACKAGES = (
    "fusion-nas",
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "optuna",
    "sqlalchemy",
    "numpy",
    "scikit-learn",
)
HAND_BACK_S = 1.5
"""Time that workers have to put their trials back after Ctrl-C."""


def stored_study(url: str, name: str) -> Study | None:
    """The study of this name, None where the database or the study does not exist yet."""
    path = sqlite_path(url)
    if path is not None and (not path.exists() or path.stat().st_size == 0):
        return None
    engine = open_engine_or_none(url)
    if engine is None:
        return None
    with explained(url), engine.connect() as connection:
        found = connection.scalar(sa.select(tables.studies.c.study_id).where(tables.studies.c.name == name))
    return open_study(url, name) if found is not None else None


def open_engine_or_none(url: str) -> sa.Engine | None:
    """An engine, or None where the database has none of our tables yet."""
    try:
        return open_engine(url)
    except StorageError as error:
        if "holds no fusion-nas study" in str(error):
            return None
        raise


def check_same(config: StudyConfig, study: Study) -> None:
    """Refuse a study file that would change what the stored scores mean."""
    differences = config.differences(study.config)
    stored = SearchSpace.from_dict(study.space)
    given = SearchSpace.load(config.space).on(
        backbone=config.backbone, num_classes=stored.num_classes, in_chans=stored.in_chans
    )
    if given.digest != stored.digest:
        differences.append(
            f"space: stored {stored.name!r} with digest {stored.digest}, given {given.name!r} with {given.digest}"
        )
    if differences:
        shown = "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")  # noqa: PLR2004
        may = f"{', '.join(RUNTIME_KEYS[:-1])} and {RUNTIME_KEYS[-1]}"
        raise UserError(
            f"study {study.name!r} is stored with other settings: {shown}. "
            f"Only {may} may change; give the study a new name to start another"
        )


def create_study(
    config: StudyConfig,
    text: str,
    url: str,
    describe: Callable[[StudyConfig], "DataSummary"],
    calibration: "Calibration | None" = None,
) -> Study:
    """Store a new study with its landmarks waiting; safe against a second launcher and a crash in between.

    Args:
        describe: opens the data.
        calibration: decides what `estimate: auto` means; without one it means a full training of every candidate.
    """
    import optuna

    space = SearchSpace.load(config.space)
    summary = describe(config)
    space = space.on(backbone=config.backbone, num_classes=summary.num_classes, in_chans=summary.in_chans)
    with exclusive(url), explained(url):
        if (stored := stored_study(url, config.name)) is not None:  # another launcher was faster
            return stored
        storage = open_storage(url, create=True)
        row = {
            "created_at": time.time(),
            "config_text": text,
            "space": space.to_dict(),
            "data": asdict(summary),
            "provenance": provenance() | ({"calibration": calibration.to_dict()} if calibration else {}),
        }

        def make(config: StudyConfig, target: int, candidates_of: int | None) -> tuple[dict[str, Any], "optuna.Study"]:
            made = optuna.create_study(
                study_name=config.name, storage=storage, direction="maximize", load_if_exists=True
            )
            own = {
                "study_id": made._study_id,
                "name": config.name,
                "target": target,
                "config": config.to_dict(),
                "candidates_of": candidates_of,
            }
            return row | own, made

        first, study = make(config, min(config.trials, _capacity(config, space)), None)
        rows = [first]
        _enqueue_landmarks(study, config, space)
        estimate = _resolved(config.estimate, calibration)
        if estimate.cheap:
            scored = config.of_candidates(estimate)
            rows.append(make(scored, min(scored.trials, space.size), study._study_id)[0])
        with storage.engine.begin() as connection:
            connection.execute(sa.insert(tables.studies), rows)
        close_storage(storage)
    return open_study(url, config.name)


def _resolved(estimate: EstimateConfig, calibration: "Calibration | None") -> EstimateConfig:
    """What `auto` means after a calibration."""
    if estimate.by != "auto":
        return estimate
    return estimate.model_copy(update=calibration.settings if calibration else {"by": "full"})


def _capacity(config: StudyConfig, space: SearchSpace) -> int:
    """Distinct networks that the study can train: those of the space and the landmarks outside it."""
    return space.size + sum(landmark_in(space, name) not in space for name in config.landmarks)


def _enqueue_landmarks(study: Any, config: StudyConfig, space: SearchSpace) -> None:
    waiting = {trial.user_attrs.get("landmark") for trial in study.get_trials(deepcopy=False)}
    for name in config.landmarks:
        if name not in waiting:
            params = space.encode(landmark_in(space, name)) or {}
            study.enqueue_trial(params, user_attrs={"landmark": name})


def provenance() -> dict[str, Any]:
    """Versions and machine, without importing the packages."""
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": cpu_count(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_target(study: Study, target: int) -> int:
    """Set how many trials the study is to have in the end, at most as many as there are networks; returns it."""
    config = StudyConfig.parse(study.config, f"study {study.name}")
    target = min(target, _capacity(config, SearchSpace.from_dict(study.space)))
    with explained(study.url), open_engine(study.url).begin() as connection:
        connection.execute(
            sa.update(tables.studies).where(tables.studies.c.study_id == study.study_id).values(target=target)
        )
    return target


def set_tracking(study: Study, tracker: str | None) -> None:
    """Store which tracker the study's workers use from now on."""
    config = {**study.config, "tracking": tracker}
    with explained(study.url), open_engine(study.url).begin() as connection:
        connection.execute(
            sa.update(tables.studies).where(tables.studies.c.study_id == study.study_id).values(config=config)
        )


@dataclass
class LocalWorkers:
    """Worker processes of this machine, each in a session of its own so that Ctrl-C reaches only the launcher."""

    url: str
    name: str
    count: int
    devices: tuple[str, ...] = ("auto",)
    """Dealt out to the workers in turn."""
    deadline: float | None = None
    killed: set[str] = field(default_factory=set)
    """Ids of workers that did not put their trials back in time."""
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _logs: dict[str, IO[bytes]] = field(default_factory=dict)
    _dealt: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "LocalWorkers":
        for number in range(self.count):
            self._start(self.devices[number % len(self.devices)])
        return self

    def _start(self, device: str) -> None:
        worker_id, threads = new_worker_id(), max(1, cpu_count() // self.count)
        command = [sys.executable, "-m", "nas", "worker", self.name]
        command += ["--id", worker_id, "--parent", str(os.getpid())]
        command += ["--threads", str(threads), "--device", device]
        if self.deadline is not None:
            command += ["--deadline", str(self.deadline)]
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the workers
        self._logs[worker_id] = log
        self._dealt[worker_id] = device
        self._processes[worker_id] = subprocess.Popen(  # noqa: S603 - our own command line
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The URL may hold a password, which a command line would show to everybody on the machine.
            env={**os.environ, STORAGE_VARIABLE: self.url, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,
        )

    def replace_killed(self) -> int:
        """Start a new worker for each that a signal has ended (out of memory, say); returns how many.

        The trial that it held is taken up again or, if it kills worker after worker, failed.
        """
        killed = [key for key, process in self._processes.items() if (process.poll() or 0) < 0]
        for key in killed:
            del self._processes[key]
            self._start(self._dealt[key])
        return len(killed)

    def __exit__(self, *_: object) -> None:
        self.stop()
        for log in self._logs.values():
            log.close()

    @property
    def num_running(self) -> int:
        """Processes that have not ended."""
        return sum(process.poll() is None for process in self._processes.values())

    def raise_failure(self) -> None:
        """When all have ended and one did not end well, raise what it said last."""
        if self.num_running:
            return
        for worker_id, process in self._processes.items():
            if process.returncode not in (0, 130):
                log = self._logs[worker_id]
                log.seek(0)
                lines = log.read().decode(errors="replace").strip().splitlines()
                said = lines[-1].removeprefix("nas: ") if lines else f"ended with code {process.returncode}"
                failure = UserError if process.returncode == UserError.exit_code else NasError
                raise failure(said)

    def stop(self) -> None:
        """Ask the workers to put their trials back; those that do not answer in time are killed and swept."""
        running = {key: process for key, process in self._processes.items() if process.poll() is None}
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + HAND_BACK_S
        for worker_id, process in running.items():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self.killed.add(worker_id)


def sweep_study(study: Study, killed: Collection[str] = ()) -> int:
    """Put back what dead workers of the study held; returns how many trials."""
    from nas.study.recover import sweep

    with explained(study.url):
        storage = open_storage(study.url)
        try:
            parts = [part for part in (study, study.candidates()) if part]
            return sum(sweep(storage, part.study_id, killed) for part in parts)
        finally:
            close_storage(storage)


def absolute_url(url: str) -> str:
    """The URL as a worker with another working directory must see it."""
    path = sqlite_path(url)
    return url if path is None else f"sqlite:///{Path(path).resolve()}"
