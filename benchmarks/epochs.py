"""The same epochs twice: as a worker trains them, and in a loop without anything around it."""

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F

from nas.architecture import Architecture
from nas.fusion.models import build_model, open_branches
from nas.training.config import TrainingConfig
from nas.training.data.source import DataSource
from nas.training.module import learning_rate, parameter_groups
from nas.training.run import train

Clock = Callable[[], float]


def bare_loop(
    architecture: Architecture, data: DataSource, config: TrainingConfig, clock: Clock = time.process_time
) -> list[float]:
    """Seconds of each epoch of a loop without lightning, guard, records or checkpoints: train, then validate."""
    torch.manual_seed(0)
    device = torch.device(config.device)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    model = build_model(architecture).to(device, memory_format=layout)
    open_branches(model)
    groups = parameter_groups(model, config.weight_decay)
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=config.momentum, nesterov=True, fused=True)
    train_batches = data.train_batches(batch_size=config.batch_size, seed=0, on=device)
    val_batches = data.val_batches(batch_size=config.batch_size, on=device)
    amp = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16-mixed")
    seconds, step = [], 0
    for epoch in range(config.epochs):
        started = clock()
        train_batches.set_epoch(epoch)
        model.train()
        for images, labels in train_batches:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps_per_epoch=len(train_batches), config=config)
            optimizer.zero_grad(set_to_none=True)
            with amp:
                loss = F.cross_entropy(model(images.contiguous(memory_format=layout)), labels)
            loss.backward()
            optimizer.step()
            step += 1
        model.eval()
        with torch.inference_mode(), amp:
            correct = sum((model(images).argmax(1) == labels).sum() for images, labels in val_batches)
        assert correct > 0  # waits for the device
        seconds.append(clock() - started)
    return seconds


def worker_loop(
    architecture: Architecture,
    data: DataSource,
    config: TrainingConfig,
    folder: Path,
    clock: Clock = time.process_time,
) -> list[float]:
    """Seconds of the same epochs as a worker trains them: guard, records, stop requests and checkpoints.

    The first epoch, which no moment precedes, is not among them.
    """
    moments: list[float] = []
    checkpoint = folder / "trial.ckpt"
    train(
        architecture,
        data,
        config,
        seed=0,
        on_epoch=lambda _: moments.append(clock()),
        should_stop=lambda: False,
        checkpoint=checkpoint,
    )
    checkpoint.unlink()
    return [after - before for before, after in pairwise(moments)]
