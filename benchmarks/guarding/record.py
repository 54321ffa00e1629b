"""Trains a case to its end and keeps what a guard would see: every step, every look at the blocks, every epoch."""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.guarding.tasks import Case
from nas.documents import write_atomically
from nas.training import run as training_run
from nas.training.config import GuardConfig
from nas.training.data.source import Batches, DataSource
from nas.training.guard import Guard
from nas.training.module import CandidateModule
from nas.training.run import train
from nas.training.signals.reading import BlockReading, EpochReading, Observation

RESULTS = Path(__file__).parents[1] / "results" / "guard"
SETTLING = 16
"""Batches that the statistics of batch norm are taken from."""
READINGS: dict[str, Any] = {"steps": Observation, "blocks": BlockReading, "epochs": EpochReading}
WHOLE: dict[Any, Any] = {int: int, bool: bool}
Run = dict[str, NDArray[np.float32]]
"""`steps`, `blocks` and `epochs`, a reading a row with its fields in order, and `settled` (E, 2): accuracy and loss of
validation with settled batch norm."""


class Recorder(Guard):
    """Takes everything in, and never speaks."""

    def __init__(self, config: GuardConfig) -> None:
        super().__init__(config)
        self.rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in (*READINGS, "settled")}

    def observe(self, seen: Observation) -> None:
        self.rows["steps"].append(astuple(seen))

    def inspect(self, readings: Sequence[BlockReading]) -> None:
        self.rows["blocks"] += map(astuple, readings)

    def judge(self, seen: EpochReading) -> None:
        self.rows["epochs"].append(astuple(seen))


def record(case: Case, data: DataSource, seed: int) -> Run:
    """Train without a guard."""
    recorders: list[Recorder] = []
    stream = data.train_batches(batch_size=case.training.batch_size, seed=seed, on=torch.device("cpu"))
    validation = data.val_batches(batch_size=case.training.batch_size, on=torch.device("cpu"))
    result = CandidateModule.validation_result

    def made(config: GuardConfig) -> Recorder:
        recorders.append(Recorder(config))
        return recorders[-1]

    def looked(module: CandidateModule) -> dict[str, float]:
        recorders[-1].rows["settled"].append(settled(module, stream, validation))
        return result(module)

    with patch.object(training_run, "Guard", made), patch.object(CandidateModule, "validation_result", looked):
        train(case.architecture, data, case.training, seed=seed)
    return {name: np.array(rows, np.float32) for name, rows in recorders[-1].rows.items()}


def settled(module: CandidateModule, stream: Batches, validation: Batches) -> tuple[float, float]:
    """Accuracy and loss of validation with statistics taken anew; the network is left as it was."""
    model, generator = module.model, torch.get_rng_state()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    training = model.training
    norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    right, loss, count = 0, 0.0, 0
    with torch.no_grad(), module.trainer.precision_plugin.forward_context():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # asks for the mean
            norm.train()
        stream.set_epoch(0)
        for _, (images, _) in zip(range(SETTLING), stream, strict=False):
            module(images)
        model.eval()
        for images, labels in validation:
            logits = module(images).float()
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
            count += len(labels)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.load_state_dict(before)
    model.train(training)
    torch.set_rng_state(generator)
    return right / count, loss / count


@dataclass(frozen=True)
class Pack:
    """The recorded runs of one task in one file."""

    path: Path
    runs: dict[str, Run]
    """By the key of their case."""

    @classmethod
    def of(cls, task: str) -> "Pack":
        """Those that there are."""
        path, runs = RESULTS / f"{re.sub('[^a-z0-9]+', '-', task.lower())}.npz", dict[str, Run]()
        if path.exists():
            with np.load(path, allow_pickle=False) as file:
                for name in file.files:
                    key, _, kind = name.rpartition(" / ")
                    runs.setdefault(key, {})[kind] = file[name]
        return cls(path, runs)

    def add(self, key: str, run: Run) -> None:
        """Keep one more."""
        self.runs[key] = run
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        every = {f"{key} / {kind}": array for key, run in self.runs.items() for kind, array in run.items()}
        np.savez_compressed(content, **every)
        write_atomically(self.path, content.getvalue())


def readings(run: Run, kind: str) -> Iterator[Any]:
    """The rows of a run as values."""
    of = READINGS[kind]
    casts = [WHOLE.get(field.type, float) for field in fields(of)]
    optional = ["None" in str(field.type) for field in fields(of)]
    for row in run[kind].tolist():
        values = [
            None if may_lack and np.isnan(value) else cast(value)
            for cast, may_lack, value in zip(casts, optional, row, strict=True)
        ]
        yield of(**dict(zip((field.name for field in fields(of)), values, strict=True)))


def inspections(run: Run) -> dict[int, list[BlockReading]]:
    """Those of the blocks, by step."""
    return {step: list(rows) for step, rows in groupby(readings(run, "blocks"), lambda seen: seen.step)}
