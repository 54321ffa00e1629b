"""What every opened data set can do. Shapes: B images of C channels, H × W pixels."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Literal, Protocol

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, device

from nas.training.summary import DataSummary


class Batches(Protocol):
    """Batches of one part: images (B, C, H, W) as standardised floats and labels (B,), on the device.

    Labels of mixed training images are probabilities (B, K) of the K classes.
    """

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation; the next iteration follows it."""

    def origin(self, batch: int, position: int) -> str:
        """Names one image of the epoch that was set."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


class DataSource(ABC):
    """An opened data set: serves any number of runs, one after the other."""

    def __init__(self, summary: DataSummary) -> None:
        self.summary = summary

    @property
    def num_classes(self) -> int:
        """Classes of the task."""
        return self.summary.num_classes

    @property
    def in_chans(self) -> int:
        """Channels of an image."""
        return self.summary.in_chans

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.summary.input_size

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what is trained and validated on."""
        return self.summary.fingerprint

    @abstractmethod
    def train_batches(self, *, batch_size: int, seed: int, on: device) -> Batches:
        """Augmented training batches; what epoch e gives is a function of (seed, e) alone."""

    @abstractmethod
    def val_batches(self, *, batch_size: int, on: device) -> Batches:
        """Validation batches in fixed order."""

    @abstractmethod
    def test_batches(self, *, batch_size: int, on: device) -> Batches:
        """Test batches in fixed order: for the confirmation of finished searches only."""

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """Up to ``count`` training images (n, C, H, W) as floats on the CPU, and their labels (n,): always the same."""
        images, labels, left = [], [], count
        for batch, classes in self.train_batches(batch_size=min(count, 64), seed=0, on=device("cpu")):
            images.append(batch[:left])
            labels.append(classes[:left])
            left -= len(labels[-1])
            if not left:
                break
        return torch.cat(images), torch.cat(labels)

    def run_data(self, *, batch_size: int, seed: int, on: device) -> "RunData":
        """The loaders of one run."""
        return RunData(self, batch_size=batch_size, seed=seed, on=on)


class RunData(L.LightningDataModule):
    """The loaders of one training run. No test loader is made unless it is asked for."""

    def __init__(self, source: DataSource, *, batch_size: int, seed: int, on: device) -> None:
        super().__init__()
        self.source, self.batch_size, self.on = source, batch_size, on
        self.train = source.train_batches(batch_size=batch_size, seed=seed, on=on)

    def fault(self, *, epoch: int, num_batches: int) -> str | None:
        """What is not finite among the first training batches of an epoch, or in the validation part."""
        self.train.set_epoch(epoch)
        val = self.val_batches()
        for part, batches, count in (("train", self.train, num_batches), ("val", val, len(val))):
            for number, (images, _) in enumerate(islice(batches, count)):
                finite = images.flatten(1).isfinite().all(1)
                if not finite.all():
                    name = batches.origin(number, int(finite.int().argmin()))
                    return f"{self.source.summary.source}: {part} part: {name} holds values that are not finite"
        return None

    def val_batches(self) -> Batches:
        """Validation batches as they are."""
        return self.source.val_batches(batch_size=self.batch_size, on=self.on)

    def train_dataloader(self) -> CombinedLoader:
        """Augmented training batches."""
        return _for_lightning(self.train, "max_size_cycle")

    def val_dataloader(self) -> CombinedLoader:
        """Validation batches."""
        return _for_lightning(self.val_batches(), "sequential")

    def test_dataloader(self) -> CombinedLoader:
        """Test batches."""
        return _for_lightning(self.source.test_batches(batch_size=self.batch_size, on=self.on), "sequential")


def _for_lightning(batches: Batches, mode: Literal["max_size_cycle", "sequential"]) -> CombinedLoader:
    """What lightning would wrap the batches in, made here because that warns under torch ≥ 2.10.

    https://github.com/Lightning-AI/pytorch-lightning/issues/21326
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        return CombinedLoader(batches, mode)


def epoch_seed(seed: int, epoch: int) -> int:
    """A 63-bit seed for the order and augmentation of one epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def num_batches(num_images: int, batch_size: int) -> int:
    """Batches of nearly equal size, none above ``batch_size``."""
    return -(-num_images // batch_size)
