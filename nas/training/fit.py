"""What happens around lightning's loop: epoch records, guard, stop requests, checkpoints."""

import logging
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.warnings import disable_possible_user_warnings
from lightning.pytorch.utilities.exceptions import SIGTERMException
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn

from nas.errors import DataError
from nas.measurement import EpochRecord, Interrupted, Outcome, StabilityEvent
from nas.training.checkpoint import Checkpoint, CheckpointError, generator_states, restore_generators
from nas.training.config import TrainingConfig
from nas.training.data.source import RunData
from nas.training.device import resolve_device
from nas.training.guard import Guard
from nas.training.inspection import Inspector, is_watched
from nas.training.module import FP16_SKIPS, CandidateModule
from nas.training.signals.reading import EpochReading, Observation
from nas.training.signals.step import NonFinite

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
logging.getLogger("lightning.fabric").setLevel(logging.WARNING)

CPU_LAG = 1
"""Steps between two looks of the guard."""
GPU_LAG = 16
"""The same on a GPU, which each look waits for."""
CHECKPOINT_S = 2.0
"""A run that is killed repeats at most the epochs of this time before the one that it was in."""

OnEpoch = Callable[[EpochRecord], str | None]
"""Called after each epoch; a string stops the run with that reason."""
ShouldStop = Callable[[], bool]
"""Asked before every batch."""


class _Broken(Exception):
    def __init__(self, event: StabilityEvent) -> None:
        super().__init__(event.message)
        self.event = event


def guard_lag(device: torch.device) -> int:
    """How many steps the guard may lag behind."""
    return CPU_LAG if device.type == "cpu" else GPU_LAG


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def resume(path: Path | None, identity: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint of this very run, where there is one."""
    if path is None or not path.exists():
        return None
    found = Checkpoint.load(path)
    different = [key for key, value in identity.items() if found.identity.get(key) != value]
    if different:
        raise CheckpointError(f"{path}: belongs to another run (different {', '.join(different)})")
    return found


class Run(L.Callback):
    """What happens around lightning's loop: epoch records, guard, stop requests, checkpoints."""

    def __init__(
        self,
        loaders: RunData,
        config: TrainingConfig,
        guard: Guard,
        *,
        lag: int,
        on_epoch: OnEpoch | None,
        should_stop: ShouldStop | None,
        checkpoint: Path | None,
        identity: dict[str, Any],
        resumed: Checkpoint | None,
        started: float,
    ) -> None:
        self.loaders, self.config, self.guard, self.lag = loaders, config, guard, lag
        self.on_epoch, self.should_stop = on_epoch, should_stop
        self.checkpoint, self.identity, self.resumed = checkpoint, identity, resumed
        self.started = started
        self.records: list[EpochRecord] = list(resumed.records) if resumed else []
        self.reason: str | None = None
        self._losses: list[float] = []
        self._norms: list[float] = []
        self._skipped = 0
        self._inspector: Inspector | None = None
        self._next_step = self._num_blocks = 0
        self._epoch_start = self._val_start = 0.0
        self._kept = time.perf_counter()

    def wall_s(self) -> float:
        """Seconds spent so far, before and after an interruption."""
        return time.perf_counter() - self.started + (self.resumed.wall_s if self.resumed else 0.0)

    def fit(self, model: nn.Module, device: torch.device) -> tuple[Outcome, str | None, tuple[StabilityEvent, ...]]:
        """Run the epochs that are left."""
        done = len(self.records)
        if self.resumed:
            model.load_state_dict(self.resumed.model)
            self.guard.load_state_dict(self.resumed.guard)
        if self.resumed and self.resumed.stopped and self.on_epoch is not None:
            self.reason = self.on_epoch(self.records[-1])  # whether it is to go on may be answered otherwise by now
        if self.reason is not None:
            return Outcome.STOPPED, self.reason, tuple(self.guard.events)
        if done == self.config.epochs:
            return Outcome.COMPLETE, None, tuple(self.guard.events)
        self._num_blocks = sum(isinstance(module, BasicBlock | Bottleneck) for module in model.modules())
        if self.guard.inspects:
            self._inspector = Inspector(model)
        if self.config.channels_last:
            model = model.to(memory_format=torch.channels_last)
        module = CandidateModule(
            model,
            self.config,
            steps_per_epoch=len(self.loaders.train),
            first_epoch=done,
            optimizer_state=self.resumed.optimizer if self.resumed else None,
        )
        trainer = _trainer(device, self.config, epochs=self.config.epochs - done, callback=self)
        module.rate_factor = self.guard.rate_factor
        self._next_step = module.step
        self.loaders.train.set_epoch(done)
        if self.resumed:
            restore_generators(self.resumed.generators)
            trainer.precision_plugin.load_state_dict(self.resumed.scaler)
        try:
            _fit(trainer, module, self.loaders)
        except _Broken as broken:
            if broken.event.signal == NonFinite.name:
                self._blame_data(broken.event)
            return Outcome.UNSTABLE, broken.event.signal, tuple(self.guard.events)
        return (Outcome.STOPPED if self.reason else Outcome.COMPLETE), self.reason, tuple(self.guard.events)

    def _blame_data(self, event: StabilityEvent) -> None:
        """Raise a `DataError` where images, not the network, are what is not finite."""
        steps = event.step - event.epoch * len(self.loaders.train) + 1
        fault = self.loaders.fault(epoch=event.epoch, num_batches=steps)
        if fault is not None:
            raise DataError(fault)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell the loader which epoch comes."""
        self.loaders.train.set_epoch(len(self.records))
        self._losses, self._norms = [], []
        self._epoch_start = time.perf_counter()

    def on_train_batch_start(self, *_: object) -> None:
        """Ask whether to go on; let the inspector watch some of the steps."""
        self._check_stop()
        if self._inspector is not None and is_watched(self._next_step):
            self._inspector.watch()

    def on_validation_batch_start(self, *_: object) -> None:
        """Ask whether to go on."""
        self._check_stop()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Let the guard look: at once on a CPU, and everywhere after the first step of all."""
        module = _candidate(pl_module)
        if self._inspector is not None:
            self._inspector.keep(module.step - 1)
        self._next_step = module.step
        if module.pending_steps >= self.lag or module.step == 1:
            self._look(module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the last steps of the epoch."""
        self._look(_candidate(pl_module))
        self._val_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the epoch, keep it, and ask whether it was the last."""
        module = _candidate(pl_module)
        record = EpochRecord(
            epoch=len(self.records),
            train_loss=sum(self._losses) / len(self._losses),
            learning_rate=module.rate,
            grad_norm=median(self._norms) if self._norms else math.inf,
            train_s=self._val_start - self._epoch_start,
            val_s=time.perf_counter() - self._val_start,
            **module.validation_result(),
        )
        self.records.append(record)
        if self.on_epoch is not None and (reason := self.on_epoch(record)) is not None:
            self.reason = reason
            trainer.should_stop = True
        if self._norms:
            self._end_if(self.guard.judge(self._epoch_reading(record, module)))
            module.rate_factor = self.guard.rate_factor
        else:
            self._name_skipped(record, module.step - 1)
        # After the caller has stored the epoch: one that was stored but not kept is run, and judged, again.
        ends = trainer.should_stop or len(self.records) == self.config.epochs
        if self.checkpoint is not None and (ends or time.perf_counter() - self._kept >= CHECKPOINT_S):
            self._save(self.checkpoint, trainer, module)
            self._kept = time.perf_counter()

    def _check_stop(self) -> None:
        if self.should_stop is not None and self.should_stop():
            raise Interrupted("the training run was interrupted")

    def _look(self, module: CandidateModule) -> None:
        """Give the guard the steps since the last look."""
        steps = module.drain_steps()
        inspected = self._inspector.drain() if self._inspector is not None else {}
        for step, (loss, norm) in enumerate(steps, start=module.step - len(steps)):
            self._losses.append(loss)
            if self._scaler_skips(loss, norm):
                continue
            self._norms.append(norm)
            used = min(norm, self.config.clip_grad_norm or norm) if math.isfinite(norm) else norm
            seen = Observation(epoch=len(self.records), step=step, loss=loss, grad_norm=used)
            self._end_if(self.guard.observe(seen))
            if self._inspector is not None and (rows := inspected.get(step)) is not None:
                readings = self._inspector.readings(rows, epoch=seen.epoch, step=step)
                self._end_if(self.guard.inspect(readings))
        module.rate_factor = self.guard.rate_factor

    def _name_skipped(self, record: EpochRecord, step: int) -> None:
        """Note an epoch in which no weight changed: it says nothing of the network."""
        count = len(self._losses)
        said = f"step {step}: fp16's loss scaler, which looks for its scale, skipped all {count} steps of the epoch"
        self.guard.events.append(
            StabilityEvent(
                signal="skipped-epoch", epoch=record.epoch, step=step, value=count, threshold=None, message=said
            )
        )

    def _end_if(self, event: StabilityEvent | None) -> None:
        if event is not None:
            raise _Broken(event)

    def _epoch_reading(self, record: EpochRecord, module: CandidateModule) -> EpochReading:
        summary, config = self.loaders.source.summary, self.config
        K, smoothing = summary.num_classes, config.label_smoothing
        counts = [count for count in module.val_class_counts if count > 0]
        chance = 1 / max(2, len(counts))
        shares = [(1 - smoothing) * count / sum(summary.class_counts) + smoothing / K for count in summary.class_counts]
        return EpochReading(
            epoch=record.epoch,
            num_epochs=config.epochs,
            step=module.step - 1,
            warm=record.epoch >= min(config.warmup_epochs, config.epochs / 2),
            last=record.epoch + 1 == config.epochs,
            train_loss=record.train_loss,
            val_loss=record.val_loss,
            accuracy=record.val_accuracy if record.val_balanced_accuracy is None else record.val_balanced_accuracy,
            chance_accuracy=chance,
            chance_error=math.sqrt(sum(chance * (1 - chance) / count for count in counts)) / len(counts),
            num_blocks=self._num_blocks,
            chance_loss=-sum(share * math.log(share) for share in shares if share > 0),
        )

    def _scaler_skips(self, loss: float, norm: float) -> bool:
        """Whether fp16's loss scaler merely looks for its scale: it skips steps whose gradients overflow."""
        if self.config.precision != "16-mixed" or not math.isfinite(loss) or math.isfinite(norm):
            self._skipped = 0
            return False
        self._skipped += 1
        return self._skipped <= FP16_SKIPS

    def _save(self, path: Path, trainer: L.Trainer, module: CandidateModule) -> None:
        Checkpoint(
            identity=self.identity,
            records=tuple(self.records),
            model=module.model.state_dict(),
            optimizer=trainer.optimizers[0].state_dict(),
            scaler=trainer.precision_plugin.state_dict(),
            guard=self.guard.state_dict(),
            generators=generator_states(),
            wall_s=self.wall_s(),
            stopped=self.reason is not None,
        ).save(path)


def _candidate(module: L.LightningModule) -> CandidateModule:
    if not isinstance(module, CandidateModule):
        raise TypeError(f"expected a CandidateModule, got {type(module).__name__}")
    return module


def _trainer(device: torch.device, config: TrainingConfig, *, epochs: int, callback: L.Callback) -> L.Trainer:
    """A lightning Trainer without logger, progress bar, summary, checkpoints or sanity check."""
    if device.type == "cpu" and resolve_device("auto").type != "cpu":  # the CPU beside a GPU is meant
        disable_possible_user_warnings(module=r"lightning\.pytorch\.trainer\.setup")
    return L.Trainer(
        accelerator=device.type,
        devices=[device.index] if device.type == "cuda" and device.index is not None else 1,
        precision=config.precision,
        max_epochs=epochs,
        callbacks=[callback],
        barebones=True,  # our own hooks keep the metrics
        plugins=[LightningEnvironment()],  # a worker under SLURM is one process, and keeps its signals
    )


def _fit(trainer: L.Trainer, module: CandidateModule, loaders: RunData) -> None:
    """Run lightning, and give a Ctrl-C or SIGTERM its ordinary meaning back."""
    try:
        trainer.fit(module, datamodule=loaders)
    except SIGTERMException:
        raise Interrupted("the process was asked to end") from None
    except SystemExit as exit_:
        if isinstance(exit_.__context__, KeyboardInterrupt):  # lightning turns Ctrl-C into exit(1)
            raise KeyboardInterrupt from None
        raise
