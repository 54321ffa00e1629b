"""What a worker does with a candidate: train it on the study's data, as the study file says."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from nas.architecture import Architecture
from nas.errors import DataError
from nas.fusion.cost import CostComparison, compare_cost
from nas.measurement import EpochRecord, Measurement, OutOfMemory
from nas.study.config import StudyConfig
from nas.study.store.reader import Study
from nas.training.checkpoint import CheckpointError
from nas.training.data import open_data
from nas.training.device import half_of, resolve_device
from nas.training.run import train
from nas.training.turns import Turns

OnEpoch = Callable[[EpochRecord], str | None]
T = TypeVar("T")


class Measure(Protocol):
    """Measures an architecture: the worker stores what comes out, and hears of each epoch as it ends."""

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    def cost(self, architecture: Architecture) -> CostComparison:
        """What the study needs to know of a network before it is trained, beside the plain one."""
        ...

    def __call__(
        self, architecture: Architecture, *, on_epoch: OnEpoch, should_stop: Callable[[], bool], checkpoint: Path
    ) -> Measurement:
        """Train; go on from ``checkpoint`` where it exists. Raises `nas.measurement.Interrupted` when told to stop."""
        ...


class Training:
    """Trains the candidates of one study: the data is opened once and served to all of them."""

    def __init__(self, study: Study, *, device: str = "auto", threads: int | None = None, shared: bool = False) -> None:
        self.config = study.settings
        wanted = device if device != "auto" else self.config.training.device
        self.device = str(resolve_device(wanted))
        self.shared = shared
        """Whether other workers use the device: a candidate that finds no memory there is not to blame."""
        self.training = self.config.training.model_copy(
            update={"device": self.device, "threads": self.config.training.threads or threads}
        )
        self.turns = Turns(self.device) if "latency_ms" in self.config.known_costs else None
        """Taken on the device where candidates are timed, alone, while others train."""
        self.data = open_data(self.config.data)
        if self.data.summary.no_room and "no_room" in study.data:  # older studies go on as they did
            raise DataError(
                f"study {study.name}: its other workers train on decoded images that are kept, and here is no room for "
                "them, so that they would be cropped otherwise; make room, or name a place by FUSION_NAS_CACHE"
            )
        stored = study.data["fingerprint"]
        if self.data.fingerprint != stored:
            raise DataError(
                f"study {study.name}: the data {self.config.data.source} changed since the study began "
                f"(fingerprint {self.data.fingerprint[:16]}, was {stored[:16]}); start a study with a new name"
            )

    def cost(self, architecture: Architecture) -> CostComparison:
        """Count and, where the study asks for latency, time a network: alone on the device."""
        with self.turns.alone() if self.turns else nullcontext():
            return known_cost(architecture, self.config, self.data.input_size, self.device)

    def __call__(
        self, architecture: Architecture, *, on_epoch: OnEpoch, should_stop: Callable[[], bool], checkpoint: Path
    ) -> Measurement:
        """Train from scratch, or go on from what an attempt that was broken off has left."""

        with self.turns.together() if self.turns else nullcontext(_nobody_waits) as give_way:

            def before_batch() -> bool:
                give_way()
                return should_stop()

            run = partial(
                train,
                architecture,
                self.data,
                self.training,
                seed=self.config.seed,
                guard=self.config.guard,
                on_epoch=on_epoch,
                should_stop=before_batch,
                checkpoint=checkpoint,
            )
            return self.robust(run, checkpoint)

    def robust(self, run: Callable[[], T], checkpoint: Path) -> T:
        """What ``run`` gives; begun anew where ``checkpoint`` is of no use.

        Raises:
            OutOfMemory: other workers use the device too, and it has no room left for this one.
        """
        try:
            return run()
        except CheckpointError:  # torn, or of another version: the seed gives the same epochs again
            checkpoint.unlink(missing_ok=True)
            return run()
        except torch.OutOfMemoryError as error:
            if not self.shared:
                raise
            raise OutOfMemory(f"{self.device}: out of memory, which other workers use too") from error


def _nobody_waits() -> None:
    """Where nothing is timed."""


def known_cost(
    architecture: Architecture,
    config: StudyConfig,
    input_size: tuple[int, int, int],
    device: str,
    *,
    timed: bool = True,
) -> CostComparison:
    """What a study asks of a network before its training; latency only where ``timed``."""
    latency = config.latency
    return compare_cost(
        architecture,
        image_size=input_size[-1],
        batch=latency.batch,
        device=device,
        threads=latency.threads,
        repeats=latency.repeats if timed and "latency_ms" in config.known_costs else 0,
        train_batch=config.training.batch_size if "peak_memory_mb" in config.known_costs else None,
        train_half=half_of(config.training),
    )
