"""How fast this machine trains: measured on the plain network and the real images."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.fusion.models import build_model
from nas.training.config import TrainingConfig
from nas.training.data.source import Batches, DataSource
from nas.training.device import half_of, on_device, resolve_device


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Images a second, reading and decoding included."""

    device: str
    train: float
    val: float


def measure_pace(
    architecture: Architecture,
    data: DataSource,
    config: TrainingConfig,
    *,
    threads: int | None = None,
    limit_s: float = 4.0,
) -> Pace:
    """Train and validate as ``config`` says for up to ``limit_s`` each, after one batch that is not counted.

    Args:
        threads: on the CPU, where ``config`` does not say.
    """
    device = resolve_device(config.device)
    config = on_device(config, device)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or threads or before)
    try:
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        network = _Network(build_model(architecture).to(device, memory_format=layout), config, device, layout)
        train = data.train_batches(batch_size=config.batch_size, seed=0, on=device)
        val = data.val_batches(batch_size=config.batch_size, on=device)
        return Pace(
            device=device.type, train=_train_pace(network, train, limit_s), val=_val_pace(network, val, limit_s)
        )
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Network:
    """A network in the precision and the memory layout of its training."""

    model: nn.Module
    config: TrainingConfig
    device: torch.device
    layout: torch.memory_format

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        half = half_of(self.config)
        context = torch.autocast(self.device.type, half, cache_enabled=False) if half else nullcontext()
        with context:
            logits = self.model(images.contiguous(memory_format=self.layout))
        return F.cross_entropy(logits.float(), labels)


def _train_pace(network: _Network, batches: Batches, limit_s: float) -> float:
    optimizer = torch.optim.SGD(network.model.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    scaler = torch.amp.GradScaler(network.device.type, enabled=network.config.precision == "16-mixed")
    network.model.train()

    def step(images: Tensor, labels: Tensor) -> float:
        optimizer.zero_grad()
        loss = network.loss(images, labels)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        scaler.step(optimizer)
        scaler.update()
        return loss.item()  # waits for the device

    return _images_per_s(batches, step, limit_s)


@torch.inference_mode()
def _val_pace(network: _Network, batches: Batches, limit_s: float) -> float:
    network.model.eval()
    return _images_per_s(batches, lambda images, labels: network.loss(images, labels).item(), limit_s)


def _images_per_s(batches: Batches, work: Callable[[Tensor, Tensor], float], limit_s: float) -> float:
    """Images a second over what fits into the time; the first batch, which warms up, only where there is no other."""
    num_images, first_s, started = 0, 0.0, time.perf_counter()
    for images, labels in batches:
        work(images, labels)
        now = time.perf_counter()
        if not first_s:
            first, first_s, started = len(labels), now - started, now
            continue
        num_images += len(labels)
        if now - started > limit_s:
            break
    return num_images / (time.perf_counter() - started) if num_images else first / first_s
