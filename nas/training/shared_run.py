"""Training one network through which every step takes another path."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from torch import nn

from nas.errors import NasError
from nas.fusion.models import open_branches
from nas.measurement import EpochRecord, Outcome
from nas.training.checkpoint import CheckpointError
from nas.training.config import GuardConfig, TrainingConfig
from nas.training.data.source import DataSource
from nas.training.device import on_device, resolve_device
from nas.training.fit import OnEpoch, Run, ShouldStop, guard_lag, resume, seed_everything
from nas.training.guard import Guard

Network = TypeVar("Network", bound=nn.Module)

Walk = Callable[[Network, int], Iterator[object]]
"""The paths of one epoch (from 0): drawing an item puts the network on the path of the next step."""


def fit_shared(
    build: Callable[[], Network],
    walk: Walk[Network],
    data: DataSource,
    config: TrainingConfig,
    *,
    seed: int,
    identity: dict[str, Any],
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
    should_stop: ShouldStop | None = None,
) -> tuple[Network, tuple[EpochRecord, ...]]:
    """Build and train a network whose path changes at every step; it comes back on its device.

    The result is a function of ``build``, ``walk``, data, configuration and ``seed``: what ``walk`` gives must
    be a function of the epoch alone. Validation uses the last path of the epoch with running statistics: a
    sign of life, no score. The guard looks for what is not finite only, because paths differ in their loss.

    Args:
        identity: what a checkpoint must agree on to be gone on from; plain values.
        checkpoint: as in `nas.training.run.train`.

    Raises:
        NasError: the network broke, with the reason.
        Interrupted, CheckpointError: as in `nas.training.run.train`.
    """
    started = time.perf_counter()
    device = resolve_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    seed_everything(seed)
    network = build()
    if not config.zero_init_branches:
        open_branches(network)
    run = _SharedRun(
        data.run_data(batch_size=config.batch_size, seed=seed, on=device),
        on_device(config, device),
        Guard(GuardConfig.only("non-finite")),
        lag=guard_lag(device),
        on_epoch=on_epoch,
        should_stop=should_stop,
        checkpoint=checkpoint,
        identity=identity,
        resumed=resume(checkpoint, identity),
        started=started,
    )
    run.next_paths = lambda epoch: walk(network, epoch)
    outcome, reason, events = run.fit(network, device)
    if outcome is Outcome.UNSTABLE:
        raise NasError(f"the shared network broke: {events[0].message if events else reason}")
    network = network.to(device)
    if config.channels_last:  # a finished checkpoint comes in another layout, which rounds differently
        network = network.to(memory_format=torch.channels_last)
    return network, tuple(run.records)


class _SharedRun(Run):
    """Puts the network on a path before every step."""

    next_paths: Callable[[int], Iterator[object]]
    _paths: Iterator[object]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Step without fusing: torch's fused SGD takes no parameters of which some were never on a path."""
        for group in trainer.optimizers[0].param_groups:
            group.update(fused=False, foreach=True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the paths of this epoch."""
        super().on_train_epoch_start(trainer, pl_module)
        self._paths = self.next_paths(len(self.records))

    def on_train_batch_start(self, *arguments: object) -> None:
        """Take the path of this step."""
        super().on_train_batch_start(*arguments)
        next(self._paths)


__all__ = ["CheckpointError", "Walk", "fit_shared"]
