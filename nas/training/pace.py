"""How fast this machine trains: measured on the plain network and the real images."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.fusion.models import build_model
from nas.training.data.source import Batches, DataSource
from nas.training.device import resolve_device


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Images a second, reading and decoding included."""

    device: str
    train: float
    val: float


def measure_pace(
    architecture: Architecture,
    data: DataSource,
    *,
    batch_size: int,
    device: str = "auto",
    threads: int | None = None,
    limit_s: float = 4.0,
) -> Pace:
    """Train and validate for up to ``limit_s`` each, after one batch that is not counted."""
    on = resolve_device(device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        model = build_model(architecture).to(on, memory_format=torch.channels_last)
        return Pace(
            device=on.type,
            train=_train_pace(model, data.train_batches(batch_size=batch_size, seed=0, on=on), limit_s),
            val=_val_pace(model, data.val_batches(batch_size=batch_size, on=on), limit_s),
        )
    finally:
        torch.set_num_threads(before)


def _train_pace(model: nn.Module, batches: Batches, limit_s: float) -> float:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    model.train()

    def step(images: Tensor, labels: Tensor) -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        return loss.item()  # waits for the device

    return _images_per_s(batches, step, limit_s)


@torch.inference_mode()
def _val_pace(model: nn.Module, batches: Batches, limit_s: float) -> float:
    model.eval()
    return _images_per_s(batches, lambda images, labels: F.cross_entropy(model(images), labels).item(), limit_s)


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
