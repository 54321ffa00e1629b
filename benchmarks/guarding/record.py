"""Trains a case to its end and keeps what a guard would see: every step, every look at the blocks, every epoch."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.guarding.tasks import Case
from nas.documents import write_atomically
from nas.measurement import StabilityEvent
from nas.training import run as training_run
from nas.training.config import GuardConfig
from nas.training.data.source import DataSource
from nas.training.guard import Guard
from nas.training.module import Batch, CandidateModule
from nas.training.run import train
from nas.training.signals.reading import BlockReading, EpochReading, Observation

BLOCK_FIELDS = tuple(f.name for f in fields(BlockReading))
EPOCH_FIELDS = tuple(f.name for f in fields(EpochReading))
SETTLING = 16
"""Batches that the statistics of batch norm are taken from."""


class Recorder(Guard):
    """Never speaks."""

    kept: "Recorder"

    def __init__(self, config: GuardConfig) -> None:
        super().__init__(config)
        self.steps: list[tuple[int, float, float]] = []
        self.blocks: list[list[float]] = []
        self.epochs: list[list[float]] = []
        self.looks: list[tuple[float, float, float]] = []
        Recorder.kept = self

    def observe(self, seen: Observation) -> None:
        self.steps.append((seen.epoch, seen.loss, seen.grad_norm))

    def inspect(self, readings: Any) -> None:
        self.blocks += [[np.nan if v is None else v for v in asdict(seen).values()] for seen in readings]

    def in_doubt(self, seen: EpochReading) -> bool:
        return True

    def judge(self, seen: EpochReading) -> StabilityEvent | None:
        self.epochs.append([np.nan if v is None else float(v) for v in asdict(seen).values()])
        return None


def _settle(model: nn.Module, batches: Iterable[Batch]) -> None:
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for number, (images, _) in enumerate(batches):
        if number == SETTLING:
            break
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def record(case: Case, data: DataSource, seed: int, path: Path) -> dict[str, Any]:
    """Train without a guard; write the readings to ``path``, give score and time."""
    stream = data.train_batches(batch_size=case.training.batch_size, seed=seed, on=torch.device("cpu"))

    def look(module: CandidateModule, batches: Iterable[Batch]) -> float:
        """Balanced accuracy; accuracy and loss with settled statistics. The running ones are put back."""
        balanced = module.validation_result()["val_balanced_accuracy"]
        before = {k: v.clone() for k, v in module.model.state_dict().items() if "running_" in k or "num_batches" in k}
        training = module.model.training
        generator = torch.get_rng_state()
        module.model.eval()
        right, loss, count = 0, 0.0, 0
        with torch.no_grad(), module.trainer.precision_plugin.forward_context():
            stream.set_epoch(0)
            _settle(module.model, stream)
            for images, labels in batches:
                logits = module(images).float()
                loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
                right += int((logits.argmax(1) == labels).sum())
                count += len(labels)
        module.model.load_state_dict(before, strict=False)
        module.model.train(training)
        torch.set_rng_state(generator)
        Recorder.kept.looks.append((balanced, right / count, loss / count))
        return right / count

    with patch.object(training_run, "Guard", Recorder), patch.object(CandidateModule, "batch_accuracy", look):
        measured = train(case.architecture, data, case.training, seed=seed, guard=GuardConfig())
    kept = Recorder.kept
    arrays = {
        "steps": np.array(kept.steps, np.float32),
        "blocks": np.array(kept.blocks, np.float32),
        "epochs": np.array(kept.epochs, np.float64),
        "looks": np.array(kept.looks, np.float32),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".part").open("wb") as file:
        np.savez_compressed(file, **arrays)
    path.with_suffix(".part").rename(path)
    return {"score": measured.score, "wall_s": round(measured.wall_s, 2), "epochs": len(measured.epochs)}
