"""Trains a shared network: a checkpoint resumes exactly.

The options of a choice come equally often, after X. Chu et al., FairNAS, 2019 (https://arxiv.org/abs/1907.01845).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.architecture import Architecture, NormName
from nas.errors import UserError
from nas.estimate.supernet import SharedNetwork, of_norm
from nas.measurement import EpochRecord
from nas.space.space import SearchSpace
from nas.space.vocabulary import Option
from nas.training.checkpoint import Checkpoint
from nas.training.config import TrainingConfig
from nas.training.data.source import DataSource
from nas.training.fit import OnEpoch, ShouldStop
from nas.training.run import starts_at_zero
from nas.training.shared_run import fit_shared

RECIPE = 1
"""Counts up when a shared network of the same configuration would come out different."""


def fair_paths(space: SearchSpace, seed: int, epoch: int) -> Iterator[Architecture]:
    """An endless stream of architectures: each question deals its options like cards, all of them before any again.

    A function of its arguments alone, so that training can go on at any epoch.
    """
    random = np.random.default_rng([seed, epoch])
    decks: dict[str, list[Option]] = {}

    def deal(question: str, options: tuple[Option, ...]) -> Option:
        deck = decks.setdefault(question, [])
        if not deck:
            deck.extend(options[i] for i in random.permutation(len(options)))
        return deck.pop()

    while True:
        yield space.decode(deal)


def shared_digest(space: SearchSpace, norm: NormName, fingerprint: str, config: TrainingConfig, seed: int) -> str:
    """First 16 hex digits of a SHA-256 over all that decides the weights of a shared network."""
    content = [
        RECIPE,
        of_norm(space, norm).digest,
        fingerprint,
        config.model_dump(mode="json", exclude={"threads", "device"}),
        seed,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A shared network after its training, and what tells it from others."""

    digest: str
    network: SharedNetwork
    epochs: tuple[EpochRecord, ...]

    @property
    def train_s(self) -> float:
        """Seconds of its epochs."""
        return sum(record.train_s + record.val_s for record in self.epochs)


def train_shared(
    space: SearchSpace,
    norm: NormName,
    data: DataSource,
    config: TrainingConfig,
    *,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
    should_stop: ShouldStop | None = None,
) -> TrainedNetwork:
    """Train the shared network of a space under one norm for ``config.epochs``; the checkpoint resumes exactly.

    A finished checkpoint is only loaded. One of another space, data set, training or seed is a `UserError`.
    """
    digest = shared_digest(space, norm, data.fingerprint, config, seed)
    identity = {"shared": digest, "space": of_norm(space, norm).digest}
    if checkpoint is not None and checkpoint.exists():
        _check_identity(checkpoint, identity)

    def walk(network: SharedNetwork, epoch: int) -> Iterator[Architecture]:
        for path in fair_paths(network.space, seed, epoch):
            network.set_path(path)
            yield path

    network, epochs = fit_shared(
        lambda: SharedNetwork(space, norm),
        walk,
        data,
        config.model_copy(update={"zero_init_branches": starts_at_zero(space.backbone, config)}),
        seed=seed,
        identity=identity,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        should_stop=should_stop,
    )
    return TrainedNetwork(digest=digest, network=network, epochs=epochs)


def _check_identity(path: Path, identity: dict[str, Any]) -> None:
    found = Checkpoint.load(path).identity
    for key, what in (("space", "another search space"), ("shared", "other data, training or another seed")):
        if found.get(key) != identity[key]:
            raise UserError(
                f"{path}: is a shared network of {what}: expected {key} {identity[key]}, got {found.get(key)}"
            )
