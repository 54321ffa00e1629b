"""Several shared networks of each norm: trained by any number of processes at once, scored by their mean."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from nas.architecture import Architecture, NormName
from nas.documents import give_group
from nas.errors import UserError
from nas.estimate.brief import brief_config
from nas.estimate.config import EstimateConfig
from nas.estimate.shared_scoring import SharedScore, SharedScorer
from nas.estimate.shared_training import TrainedNetwork, shared_digest, train_shared
from nas.measurement import Interrupted
from nas.space.space import SearchSpace
from nas.training.config import TrainingConfig
from nas.training.data.source import DataSource
from nas.training.fit import OnEpoch, ShouldStop

LOCK_WAIT_S = 0.5
"""How long a process waits for a network that another trains before it looks at the next."""


def mean_score(scores: Sequence[SharedScore]) -> SharedScore:
    """The mean over several networks; its digest is that of the whole set."""
    return SharedScore(
        network=_joint_digest(score.network for score in scores),
        accuracy=float(np.mean([score.accuracy for score in scores])),
        loss=float(np.mean([score.loss for score in scores])),
    )


def _joint_digest(networks: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sorted(networks)).encode()).hexdigest()[:16]


class SharedEnsemble:
    """Scores architectures by the mean over several shared networks of each norm."""

    def __init__(self, scorers: Mapping[NormName, Sequence[SharedScorer]]) -> None:
        self._scorers = scorers
        self.digest = _joint_digest(scorer.digest for group in scorers.values() for scorer in group)

    def holds(self, architecture: Architecture) -> bool:
        """Whether the architecture can be scored; landmarks outside the space need not be."""
        scorers = self._scorers.get(architecture.norm, ())
        return any(scorer.network.holds(architecture) for scorer in scorers)

    def score(self, architecture: Architecture) -> SharedScore:
        """The mean score; a `UserError` where the networks do not hold the architecture."""
        if architecture.norm not in self._scorers:
            raise UserError(f"architecture {architecture.digest}: no shared network has norm {architecture.norm}")
        mean = mean_score([scorer.score(architecture) for scorer in self._scorers[architecture.norm]])
        return replace(mean, network=self.digest)


def train_ensemble(
    space: SearchSpace,
    data: DataSource,
    training: TrainingConfig,
    config: EstimateConfig,
    *,
    seed: int,
    folder: Path,
    on_epoch: OnEpoch | None = None,
    should_stop: ShouldStop | None = None,
) -> SharedEnsemble:
    """Train or load the shared networks that ``config`` asks for, one checkpoint each in ``folder``.

    Any number of processes may do this at once: each trains the networks that no other is training, and then
    waits for the rest. A network whose process died is gone on with from its last epoch.

    Raises:
        Interrupted: ``should_stop`` said yes; what was trained is kept.
    """
    training = brief_config(training, config.epochs or training.epochs)
    wanted = [(norm, seed + network) for norm in space.norm for network in range(config.networks)]
    trained: dict[tuple[NormName, int], TrainedNetwork] = {}
    folder.mkdir(parents=True, exist_ok=True)
    while len(trained) < len(wanted):
        if should_stop is not None and should_stop():
            raise Interrupted("the shared networks were interrupted")
        for norm, network_seed in wanted:
            if (norm, network_seed) in trained:
                continue
            digest = shared_digest(space, norm, data.fingerprint, training, network_seed)
            try:
                rights, lock = folder.stat(), folder / f"shared-{digest}.lock"
                with FileLock(lock, timeout=LOCK_WAIT_S, mode=rights.st_mode & 0o666):
                    give_group(lock, rights.st_gid)
                    trained[norm, network_seed] = train_shared(
                        space,
                        norm,
                        data,
                        training,
                        seed=network_seed,
                        checkpoint=folder / f"shared-{digest}.ckpt",
                        on_epoch=on_epoch,
                        should_stop=should_stop,
                    )
            except Timeout:
                continue
    scorers: dict[NormName, list[SharedScorer]] = {}
    for (norm, _), network in sorted(trained.items()):
        scorers.setdefault(norm, []).append(SharedScorer(network, data, norm_images=config.norm_images))
    return SharedEnsemble(scorers)
