"""Measures on a study's own data which cheap score ranks architectures as full training does.

A calibration is a list of runs, each a function of the task and of its own key alone: full trainings (the truth),
brief ones, trainings on fewer or on smaller images, brief ones from the trained plain network's weights, and shared
networks that score every architecture. No run is guarded: the truth is what a training gives when nobody stops it.
Runs go to worker processes; their results go into a `CalibrationStore` one by one, so that a calibration goes on
where it stopped.
"""

import atexit
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.torch import save_file

from nas.architecture import Architecture, NormName
from nas.errors import NasError, UserError
from nas.estimate.brief import brief_config
from nas.estimate.config import MIN_ARCHITECTURES, MIN_SEEDS, CalibrationConfig
from nas.estimate.predictor import Predictor, Values, held_out
from nas.estimate.ranking import Calibration, Estimate, judge
from nas.estimate.shared_scoring import SharedScorer
from nas.estimate.shared_training import train_shared
from nas.estimate.store import CalibrationStore, Result
from nas.measurement import Interrupted, Measurement
from nas.space.landmarks import LANDMARKS, landmark_in
from nas.space.space import SearchSpace
from nas.training.checkpoint import Checkpoint
from nas.training.config import DataConfig, GuardConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource
from nas.training.device import resolve_device
from nas.training.fit import ShouldStop
from nas.training.run import train

RECIPE = 2
"""Counts up when the same settings would give other results."""
POOL = 20
"""Random architectures for each one that a space-filling sample takes."""
CHEAP_SEED = 1_000
"""Added to the seeds of all but full trainings, so that no score shares its luck with the truth."""

RunKind = Literal["full", "brief", "fraction", "small", "inherit", "shared"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a calibration."""

    kind: RunKind
    epochs: int
    seed: int
    digest: str = ""
    """Of the architecture; empty for a shared network, which scores them all."""
    norm: NormName = "batch"
    """Of a shared network."""
    fraction: float = 1.0
    """Share of the training images."""
    scale: float = 1.0
    """Share of the side of the images."""

    @property
    def key(self) -> str:
        """Name of the run in a store."""
        what = self.norm if self.kind == "shared" else self.digest
        fraction = "" if self.fraction == 1 else f"-f{self.fraction:g}"
        scale = "" if self.scale == 1 else f"-x{self.scale:g}"
        return f"{self.kind}-{what}-e{self.epochs}-s{self.seed}{fraction}{scale}"

    @property
    def label(self) -> str:
        """The estimator and budget that it belongs to."""
        epochs = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        budget = {"fraction": f"fraction {self.fraction:g}", "small": f"small {self.scale:g}"}
        return f"{budget.get(self.kind, self.kind)}, {epochs}"

    @property
    def effort(self) -> float:
        """Epochs on all training images at full size."""
        return self.epochs * self.fraction * self.scale**2


@dataclass(frozen=True, kw_only=True)
class CalibrationTask:
    """What is calibrated: it crosses to the worker processes, and its digest keeps results apart."""

    space: SearchSpace
    data: DataConfig
    fingerprint: str
    training: TrainingConfig
    """Of a full run."""
    config: CalibrationConfig
    architectures: tuple[Architecture, ...]
    seed: int

    @property
    def digest(self) -> str:
        """First 16 hex digits of a SHA-256 over what a result depends on; not of how many runs there are."""
        content = [
            RECIPE,
            self.space.digest,
            self.fingerprint,
            # without defaults: a setting that a later version adds leaves earlier results valid
            self.training.model_dump(mode="json", exclude={"threads", "device"}, exclude_defaults=True),
            self.config.norm_images,
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def by_digest(self) -> dict[str, Architecture]:
        """The architectures by their digests."""
        return {architecture.digest: architecture for architecture in self.architectures}

    @property
    def truth(self) -> list[Run]:
        """The full trainings, all of one architecture after another."""
        seeds = range(self.seed, self.seed + self.config.seeds)
        return [
            Run(kind="full", epochs=self.training.epochs, seed=seed, digest=digest)
            for seed in seeds
            for digest in self.by_digest
        ]

    @property
    def runs(self) -> list[Run]:
        """Everything that is to be done, long runs first, so that no worker ends alone."""
        lengths = self.config.with_lengths(self.training.epochs)
        full, seed = self.training.epochs, self.seed + CHEAP_SEED
        budgets = (
            *(Run(kind="fraction", epochs=full, seed=seed, fraction=fraction) for fraction in lengths.fractions),
            *(Run(kind="small", epochs=full, seed=seed, scale=scale) for scale in lengths.scales),
            *(Run(kind="brief", epochs=epochs, seed=seed) for epochs in lengths.brief_epochs or ()),
            *(Run(kind="inherit", epochs=epochs, seed=seed) for epochs in lengths.inherit_epochs),
        )
        cheap = [replace(budget, digest=digest) for budget in budgets for digest in self.by_digest]
        shared = [
            Run(kind="shared", epochs=epochs, seed=seed + network, norm=norm)
            for epochs in sorted(lengths.shared_epochs or (), reverse=True)
            for network in range(lengths.networks)
            for norm in self.space.norm
        ]
        return [*shared, *self.truth, *cheap]


def make_task(
    space: SearchSpace,
    data: DataConfig,
    training: TrainingConfig,
    *,
    config: CalibrationConfig | None = None,
    seed: int = 0,
) -> CalibrationTask:
    """The calibration of a space on a data set; ``space`` is put on its classes and channels.

    Raises:
        UserError: fewer architectures or seeds than a calibration can speak of, or ``init_from``.
    """
    config = config or CalibrationConfig()
    if training.init_from is not None:
        raise UserError("training.init_from: the networks of a calibration start from scratch; calibrate without it")
    summary = open_data(data).summary
    space = space.on(num_classes=summary.num_classes, in_chans=summary.in_chans)
    for name, got, least in (
        ("architectures", min(config.architectures, space.size), MIN_ARCHITECTURES),
        ("seeds", config.seeds, MIN_SEEDS),
    ):
        if got < least:
            raise UserError(f"calibrate.{name}: expected at least {least}, got {got}")
    return CalibrationTask(
        space=space,
        data=data,
        fingerprint=summary.fingerprint,
        training=training,
        config=config,
        architectures=spread_sample(space, config.architectures, seed),
        seed=seed,
    )


def spread_sample(space: SearchSpace, count: int, seed: int) -> tuple[Architecture, ...]:
    """Landmarks of the space, and architectures that differ from those before in as many choices as can be.

    Greedy maximin over a random pool (R. Kennard and L. Stone, Computer aided design of experiments, 1969).
    """
    random = np.random.default_rng([seed, count])
    known = (landmark_in(space, name).canonical() for name in LANDMARKS)
    chosen = list({a.digest: a for a in known if a in space}.values())[:count]
    if not chosen:
        chosen = [space.sample(random).canonical()]
    drawn = (
        (space.sample(random).canonical() for _ in range(POOL * count))
        if space.size > POOL * count
        else (space.architectures())
    )
    pool = list({a.digest: a for a in drawn}.values())
    features = [_features(a) for a in pool]
    nearest = np.min([[_distance(_features(c), f) for f in features] for c in chosen], axis=0)
    while len(chosen) < count and nearest.max() > 0:
        best = int(nearest.argmax())
        chosen.append(pool[best])
        nearest = np.minimum(nearest, [_distance(features[best], f) for f in features])
    return tuple(chosen)


def _features(architecture: Architecture) -> list[Mapping[str, Any]]:
    return [{"norm": architecture.norm}, *(stage.to_dict() for stage in architecture.stages)]


def _distance(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> float:
    """Sum over norm and stages of the share of fields that differ."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        names = x.keys() | y.keys()
        total += sum(x.get(name) != y.get(name) for name in names) / len(names)
    return total


# Runs, in the process that does them.


class Runner:
    """Does the runs of one task in this process."""

    def __init__(self, task: CalibrationTask, should_stop: ShouldStop | None = None) -> None:
        self.task, self.should_stop = task, should_stop
        self._data: dict[tuple[float, float], DataSource] = {}

    def _open(self, fraction: float = 1.0, scale: float = 1.0) -> DataSource:
        if (fraction, scale) not in self._data:
            config = self.task.data
            if fraction < 1 or scale < 1:
                whole = self._open().summary
                less = {"num_train": round(fraction * whole.num_train), "image_size": round(scale * whole.image_size)}
                config = config.model_copy(update={key: max(1, value) for key, value in less.items()})
            self._data[fraction, scale] = open_data(config)
        return self._data[fraction, scale]

    def do(self, run: Run) -> Result:
        """Train, and tell the scores after each epoch, or those of all architectures on a shared network."""
        if run.kind == "shared":
            return self._share(run)
        config = self.task.training
        if run.kind in ("brief", "inherit"):
            config = brief_config(config, run.epochs)
        if run.kind == "inherit":
            config = config.model_copy(update={"init_from": str(self._plain_weights)})
        started = self._clock()
        measurement = self._train(
            self.task.by_digest[run.digest], self._open(run.fraction, run.scale), config, run.seed
        )
        return curve(measurement, self._clock() - started)

    def _train(
        self,
        architecture: Architecture,
        data: DataSource,
        config: TrainingConfig,
        seed: int,
        checkpoint: Path | None = None,
    ) -> Measurement:
        return train(
            architecture,
            data,
            config,
            seed=seed,
            guard=GuardConfig.only("non-finite"),
            should_stop=self.should_stop,
            checkpoint=checkpoint,
        )

    @cached_property
    def _plain_weights(self) -> Path:
        """The plain network's weights after a full training, in a file that lives as long as this process."""
        folder = Path(tempfile.mkdtemp(prefix="nas-calibrate-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        space, data = self.task.space, self._open()
        plain = landmark_in(space, "plain")
        self._train(plain, data, self.task.training, self.task.seed + CHEAP_SEED, checkpoint=folder / "plain.ckpt")
        weights = folder / "plain.safetensors"
        trained = Checkpoint.load(folder / "plain.ckpt").model
        save_file({name: tensor.contiguous() for name, tensor in trained.items()}, weights)
        return weights

    def _clock(self) -> float:
        """Seconds of this process's one thread, which other load on the machine does not lengthen; of the wall on
        an accelerator."""
        device = resolve_device(self.task.training.device)
        return time.process_time() if device.type == "cpu" else time.perf_counter()

    def _share(self, run: Run) -> Result:
        data, config = self._open(), brief_config(self.task.training, run.epochs)
        started = self._clock()
        try:
            trained = train_shared(self.task.space, run.norm, data, config, seed=run.seed, should_stop=self.should_stop)
        except Interrupted:
            raise
        except NasError as error:
            return {"failed": str(error)}
        train_s = self._clock() - started
        scorer = SharedScorer(trained, data, norm_images=self.task.config.norm_images)
        held = sorted((a for a in self.task.architectures if a.norm == run.norm), key=str)  # those that begin alike
        scores = {architecture.digest: scorer.score(architecture) for architecture in held}
        return {
            "network": scorer.digest,
            "scores": {digest: [score.accuracy, score.loss] for digest, score in scores.items()},
            "train_s": train_s,
            "score_s": self._clock() - started - train_s,
        }


def curve(measurement: Measurement, cost_s: float) -> Result:
    """A training as its store keeps it."""
    return {
        "outcome": measurement.outcome.value,
        "accuracy": [round(epoch.val_accuracy, 6) for epoch in measurement.epochs],
        "loss": [round(epoch.val_loss, 6) for epoch in measurement.epochs],
        "cost_s": round(cost_s, 3),
    }


_runner: Runner | None = None


def _start_worker(task: CalibrationTask) -> None:
    global _runner  # noqa: PLW0603  # one runner for each worker process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    parent = os.getppid()
    _runner = Runner(task, should_stop=lambda: os.getppid() != parent)


def _do(run: Run) -> Result:
    if _runner is None:
        raise RuntimeError("the worker was not started")
    return _runner.do(run)


# Runs, as the parent deals them out.


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a calibration is."""

    done: int
    total: int
    """Runs."""
    share: float
    """Of all epochs."""
    left_s: float | None
    """Seconds to go at the rate so far; None before the first run has ended."""


def calibrate(
    task: CalibrationTask,
    store: CalibrationStore,
    *,
    workers: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> Calibration:
    """Do the runs that the store does not hold, in ``workers`` processes of one thread each, and judge.

    Ctrl-C ends the workers at once; the runs that had ended are in the store.
    """
    results = dict(store.results(task.digest))
    runs = task.runs
    pending = [run for run in runs if run.key not in results]
    total, started = sum(run.effort for run in runs), time.monotonic()
    at_first = left = sum(run.effort for run in pending)

    def report() -> None:
        if on_progress is not None:
            elapsed, now_done = time.monotonic() - started, at_first - left
            on_progress(
                Progress(
                    done=len(results.keys() & {run.key for run in runs}),
                    total=len(runs),
                    share=1 - left / total,
                    left_s=elapsed * left / now_done if now_done else None,
                )
            )

    report()
    for run, result in _done_runs(task, pending, workers):
        store.add(task.digest, run.key, result)
        results[run.key] = result
        left -= run.effort
        report()
    return conclude(task, results)


def _done_runs(task: CalibrationTask, runs: Sequence[Run], workers: int) -> Iterator[tuple[Run, Result]]:
    """Each run with its result, in the order in which they end."""
    task = replace(task, training=task.training.model_copy(update={"threads": task.training.threads or 1}))
    if workers == 1:
        runner = Runner(task)
        yield from ((run, runner.do(run)) for run in runs)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(task,)) as pool:
        try:
            futures = {pool.submit(_do, run): run for run in runs}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise NasError("a worker of the calibration died; the same command goes on from what is stored") from None
        except BaseException:  # Ctrl-C too: no worker outlives the calibration, and the error goes on
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


# What the results say.


def conclude(task: CalibrationTask, results: Mapping[str, Result]) -> Calibration:
    """Judge every estimator and budget that ``results`` hold for all architectures, and the predictor of the rest."""
    truth = truth_of(task, results)
    found = judge(truth, full_cost(task, results), [*estimates(task, results), predicted(task, truth)])
    return replace(found, predictor=Predictor.fit(task.architectures, truth))


def predicted(task: CalibrationTask, truth: Values) -> Estimate:
    """What a predictor says that has seen ``truth`` (A, S) of other architectures: nothing more is trained for it."""
    return Estimate(
        name=f"predictor, {truth.size} trainings",
        scores=held_out(task.architectures, truth)[:, None],
        cost_s=0.0,
        settings={"by": "predictor", "epochs": None},
    )


def truth_of(task: CalibrationTask, results: Mapping[str, Result]) -> Values:
    """Final validation accuracies (A, S) of the full trainings."""
    return _accuracies(task, results, task.truth, -1).reshape(-1, len(task.architectures)).T


def full_cost(task: CalibrationTask, results: Mapping[str, Result]) -> float:
    """Seconds to train every architecture in full once."""
    return sum(float(results[run.key]["cost_s"]) for run in task.truth) / task.config.seeds


def _accuracies(task: CalibrationTask, results: Mapping[str, Result], runs: Sequence[Run], epoch: int) -> Values:
    """Accuracy of each run after an epoch (-1: the last); one that broke has what it had reached, or chance."""
    chance = 1 / task.space.num_classes

    def reached(curve: Sequence[float]) -> float:
        return curve[epoch if -1 <= epoch < len(curve) else -1] if curve else chance

    return np.array([reached(results[run.key]["accuracy"]) for run in runs])


def estimates(task: CalibrationTask, results: Mapping[str, Result]) -> Iterator[Estimate]:
    """Every estimator and budget whose results are complete."""
    yield from _stopped(task, results)
    groups: dict[str, list[Run]] = {}
    for run in task.runs:
        groups.setdefault(run.label, []).append(run)
    for label, runs in groups.items():
        if runs[0].kind == "full" or any(run.key not in results for run in runs):
            continue
        if runs[0].kind == "shared":
            yield from _shared(task, results, label, runs)
        else:
            cost = sum(float(results[run.key]["cost_s"]) for run in runs)
            if runs[0].kind == "inherit":  # and one full training of the plain network
                cost += full_cost(task, results) / len(task.architectures)
            settings = {"by": "brief", "epochs": runs[0].epochs} if runs[0].kind == "brief" else None
            scores = _accuracies(task, results, runs, -1)[:, None]
            yield Estimate(name=label, scores=scores, cost_s=cost, settings=settings)


def _stopped(task: CalibrationTask, results: Mapping[str, Result]) -> Iterator[Estimate]:
    """Full trainings looked at before their end, which cost no run of their own."""
    last = task.training.epochs
    for epochs in task.config.with_lengths(last).brief_epochs or ():
        if epochs < last:
            scores = _accuracies(task, results, task.truth, epochs - 1).reshape(-1, len(task.architectures)).T
            cost = full_cost(task, results) * epochs / last
            yield Estimate(name=f"full, stopped after {epochs}", scores=scores, cost_s=cost, of_truth=True)


def _shared(
    task: CalibrationTask, results: Mapping[str, Result], label: str, runs: Sequence[Run]
) -> Iterator[Estimate]:
    """One network alone, the mean of two and the mean of all; by accuracy and by loss.

    Every choice of so many among the networks is a scoring: one of them alone would be told by its luck.
    """
    networks: dict[int, list[Result]] = {}
    for run in runs:
        networks.setdefault(run.seed, []).append(results[run.key])
    whole = [parts for parts in networks.values() if not any("failed" in part for part in parts)]
    costs = [sum(part["train_s"] + part["score_s"] for part in parts) for parts in whole]
    if not whole:
        return
    by_digest = [{d: score for part in parts for d, score in part["scores"].items()} for parts in whole]
    for measure, column, sign in (("accuracy", 0, 1), ("loss", 1, -1)):
        scores = np.array([[sign * found[d][column] for d in task.by_digest] for found in by_digest])
        for count in sorted({1, min(2, len(whole)), len(whole)}):
            name = f"{label}, {count} network{'s' if count > 1 else ''}, by {measure}"
            subsets = itertools.combinations(range(len(whole)), count)
            yield Estimate(
                name=name,
                scores=np.stack([scores[list(some)].mean(0) for some in subsets], axis=1),
                cost_s=sum(costs) * count / len(whole),
                settings={"by": "shared", "epochs": runs[0].epochs, "networks": count, "measure": measure},
            )
