"""The table of FusionBench: a frozen value, its file, and the recipe that its rows were trained by.

Legend: A architectures, S seeds, E epochs, G signals of the guard. A run that has not been made yet is *missing*.

The file is numpy's npz without objects: nothing in it is ever unpickled.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, Backbone
from nas.backbones import MICRO
from nas.documents import write_atomically
from nas.errors import UserError
from nas.space.space import SearchSpace
from nas.training.config import DataConfig, TrainingConfig
from nas.training.signals import SIGNALS

SCHEMA = 1
FILE = "fusion_bench.npz"
ATTENTION = "cbam"
SEEDS = (0, 1, 2)
ORDER_SEED = 2026
"""Shuffles the architectures behind the uniform ones, so that the rows made so far are a random sample."""
DATA = DataConfig(source="noisy-digits", num_train=512, val_fraction=0.4)
TRAINING = TrainingConfig(epochs=9, batch_size=64, learning_rate=0.02, device="cpu", threads=1)
MISSING = np.iinfo(np.uint16).max
"""Correct images of a run that has not been made."""

Values = NDArray[np.float64]


def bench_space() -> SearchSpace:
    """Five patterns in each of four stages of the micro network, with one attention: 625 architectures."""
    content = {
        "schema": 1,
        "name": "fusion-bench",
        "extends": "patterns",
        "choices": {"attention": [ATTENTION]},
    }
    return SearchSpace.from_dict(content).on(backbone=Backbone(name=MICRO, stem="small"), num_classes=10, in_chans=1)


def in_order(space: SearchSpace) -> tuple[Architecture, ...]:
    """Every architecture once: those with one pattern in all stages, then the others in a fixed random order."""
    listed = sorted(space.architectures(), key=lambda architecture: architecture.digest)
    uniform = [a for a in listed if len({stage.pattern for stage in a.stages}) == 1]
    others = [a for a in listed if a not in uniform]
    shuffled = np.random.default_rng(ORDER_SEED).permutation(len(others))
    return (*sorted(uniform, key=lambda a: a.stages[0].pattern), *(others[i] for i in shuffled))


@dataclass(frozen=True, eq=False)
class Table:
    """What trainings of the space gave, epoch by epoch; `load_table` reads the one that ships."""

    architectures: tuple[Architecture, ...]
    """A, in the order in which they are trained: any prefix behind the uniform ones is a random sample."""
    correct: NDArray[np.uint16]
    """(A, S, E): validation images classified correctly after each epoch; `MISSING` where there is no run."""
    val_loss: NDArray[np.float32]
    """(A, S, E): cross-entropy on the validation part; NaN where there is no run."""
    train_loss: NDArray[np.float32]
    """(A, S, E): mean over the steps of an epoch; NaN where there is no run."""
    cost_s: NDArray[np.float32]
    """(A, S): CPU seconds of one thread; NaN where there is no run."""
    spoke: NDArray[np.uint8]
    """(A, S, G): where a signal of the guard spoke, which only warned: bit 0 the whole run, bits 1 to 4 the stages."""
    maker: NDArray[np.uint8]
    """(A, S): which entry of ``meta["makers"]`` a run comes from."""
    num_params: NDArray[np.uint32]
    """(A,); 0 where no run has been made."""
    macs: NDArray[np.uint32]
    """(A,); 0 where no run has been made."""
    meta: Mapping[str, Any]
    """Recipe, data fingerprint, and versions and machine of every making."""

    @classmethod
    def empty(cls, meta: Mapping[str, Any]) -> Self:
        """The table before the first run."""
        architectures = in_order(bench_space())
        A, S, E, G = len(architectures), len(SEEDS), TRAINING.epochs, len(SIGNALS)
        return cls(
            architectures=architectures,
            correct=np.full((A, S, E), MISSING, np.uint16),
            val_loss=np.full((A, S, E), np.nan, np.float32),
            train_loss=np.full((A, S, E), np.nan, np.float32),
            cost_s=np.full((A, S), np.nan, np.float32),
            spoke=np.zeros((A, S, G), np.uint8),
            maker=np.zeros((A, S), np.uint8),
            num_params=np.zeros(A, np.uint32),
            macs=np.zeros(A, np.uint32),
            meta={"schema": SCHEMA, **recipe(), **meta},
        )

    @property
    def num_epochs(self) -> int:
        """Epochs of every run."""
        return int(self.correct.shape[2])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of training; seed k gives the same order of the data to every architecture."""
        return tuple(self.meta["seeds"])

    @cached_property
    def made(self) -> NDArray[np.bool_]:
        """(A, S): which runs there are."""
        return np.asarray(self.correct[:, :, 0] != MISSING)

    @cached_property
    def accuracy(self) -> Values:
        """(A, S, E): validation accuracy; NaN where there is no run."""
        share = self.correct / float(self.meta["num_val"])
        return np.where(self.made[:, :, None], share, np.nan)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each architecture by its digest."""
        return {architecture.digest: row for row, architecture in enumerate(self.architectures)}

    def complete(self) -> "Table":
        """The table of the architectures that were trained with every seed."""
        return self._of(np.flatnonzero(self.made.all(1)))

    def _of(self, rows: NDArray[np.intp]) -> "Table":
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return Table(architectures=tuple(self.architectures[row] for row in rows), meta=self.meta, **arrays)

    def score(self, digest: str, *, seed: int, epoch: int) -> float:
        """Validation accuracy of one run after ``epoch`` epochs (1 to E); a `UserError` where it is not there."""
        if digest not in self.rows:
            raise UserError(f"FusionBench: no architecture {digest!r} in the table of {len(self.rows)}")
        if seed not in self.seeds:
            raise UserError(f"FusionBench: seed: expected one of {', '.join(map(str, self.seeds))}, got {seed}")
        if not 1 <= epoch <= self.num_epochs:
            raise UserError(f"FusionBench: epoch: expected 1 to {self.num_epochs}, got {epoch}")
        row, column = self.rows[digest], self.seeds.index(seed)
        if not self.made[row, column]:
            raise UserError(f"FusionBench: architecture {digest} has not been trained with seed {seed} yet")
        return float(self.accuracy[row, column, epoch - 1])

    def to_bytes(self) -> bytes:
        """The content of a table's file."""
        buffer = io.BytesIO()
        patterns = [[stage.pattern for stage in architecture.stages] for architecture in self.architectures]
        np.savez_compressed(
            buffer,
            meta=np.array(json.dumps(self.meta, sort_keys=True)),
            digests=np.array(list(self.rows)),
            patterns=np.array(patterns),
            **{name: getattr(self, name) for name in _ARRAYS},
        )
        return buffer.getvalue()

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        write_atomically(path, self.to_bytes())

    @classmethod
    def from_bytes(cls, content: bytes, source: str) -> Self:
        """Read a file's content; a `UserError` that begins with ``source`` where it is no such table."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = dict(file)
            meta = json.loads(str(arrays["meta"]))
            digests, patterns = [str(d) for d in arrays["digests"]], arrays["patterns"]
            values = {name: arrays[name] for name in _ARRAYS}
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{source}: not a table of FusionBench: {error}") from None
        if meta.get("schema") != SCHEMA:
            raise UserError(f"{source}: schema: expected {SCHEMA}, got {meta.get('schema')!r}")
        if {key: meta.get(key) for key in recipe()} != recipe():
            raise UserError(f"{source}: was made by another recipe than this version's; make it again")
        by_patterns = {tuple(s.pattern for s in a.stages): a for a in bench_space().architectures()}
        architectures = tuple(by_patterns.get(tuple(row)) for row in patterns.tolist())
        found = tuple(a for a in architectures if a is not None)
        if [a.digest for a in found] != digests:
            raise UserError(f"{source}: a digest does not belong to its architecture; the file was changed")
        if any(len(array) != len(found) for array in values.values()):
            raise UserError(f"{source}: {len(found)} architectures, but arrays of other lengths")
        return cls(architectures=found, meta=meta, **values)


_ARRAYS = ("correct", "val_loss", "train_loss", "cost_s", "spoke", "maker", "num_params", "macs")


def recipe() -> dict[str, Any]:
    """What decides what a run gives, beside architecture, seed and versions."""
    return {
        "space": bench_space().digest,
        "data": DATA.model_dump(mode="json", exclude_defaults=True),
        "training": TRAINING.model_dump(mode="json", exclude_defaults=True),
        "seeds": list(SEEDS),
        "signals": [signal.name for signal in SIGNALS],
    }


def load_table(path: Path | None = None) -> Table:
    """The table that ships with the package, or that of a file; raises `UserError`."""
    if path is None:
        return Table.from_bytes(files("nas.bench").joinpath(FILE).read_bytes(), FILE)
    try:
        return Table.from_bytes(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
