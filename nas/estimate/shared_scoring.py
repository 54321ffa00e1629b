"""Scores architectures on one shared network by evaluation alone."""

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.architecture import Architecture, StageFusion
from nas.backbones import STAGES
from nas.estimate.config import Measure
from nas.estimate.shared_training import TrainedNetwork
from nas.training.data.source import DataSource

NORM_IMAGES = 256
"""Training images from which the batch-norm statistics of a path are taken."""
SCORE_BATCH = 256
"""Images in a batch of scoring: few large steps cost less than many small ones."""
CACHE_BYTES = 256 * 2**20
"""Memory for what first stages gave."""
STREAM_SEED = 0
"""Of the order and augmentation of the `NORM_IMAGES`: the same for every path."""


@dataclass(frozen=True, kw_only=True)
class SharedScore:
    """What a shared network says of one architecture: good for ranking beside scores of the same digest only."""

    network: str
    """Digest of the weights of the network, or of the networks whose mean this is."""
    accuracy: float
    """Fraction of the validation part."""
    loss: float
    """Mean cross entropy of the validation part."""

    def value(self, measure: Measure) -> float:
        """What to rank by; higher is better."""
        return self.accuracy if measure == "accuracy" else -self.loss


@dataclass(frozen=True)
class _Activations:
    """What both streams of images have become on their way through the network, batch by batch."""

    norm_images: list[Tensor]
    val: list[Tensor]

    @property
    def num_bytes(self) -> int:
        return sum(x.nbytes for x in (*self.norm_images, *self.val))


class SharedScorer:
    """Scores architectures on one shared network by evaluation alone.

    Architectures that begin alike share what their first stages give: it is kept while there is room.
    """

    def __init__(
        self,
        trained: TrainedNetwork,
        data: DataSource,
        *,
        norm_images: int = NORM_IMAGES,
        batch_size: int = SCORE_BATCH,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """``norm_images``: training images from which the batch-norm statistics of each path are taken."""
        self.network = trained.network.eval()
        self.digest = weights_digest(trained.network)
        device = next(self.network.parameters()).device
        val = list(data.val_batches(batch_size=batch_size, on=device))
        train = data.train_batches(batch_size=batch_size, seed=STREAM_SEED, on=device)
        stream = [images for images, _ in itertools.islice(train, max(1, norm_images // batch_size))]
        self._labels = torch.cat([labels for _, labels in val])
        self._images = _Activations(stream, [images for images, _ in val])
        self._kept: OrderedDict[tuple[StageFusion, ...], _Activations] = OrderedDict()
        self._room = cache_bytes

    @torch.no_grad()
    def score(self, architecture: Architecture) -> SharedScore:
        """Accuracy and loss of a path, after its batch-norm statistics were taken from the fixed stream."""
        self.network.set_path(architecture)
        features = self._after(architecture.canonical().stages).val
        logits = torch.cat([self.network.head(x) for x in features]).float()
        return SharedScore(
            network=self.digest,
            accuracy=(logits.argmax(1) == self._labels).float().mean().item(),
            loss=F.cross_entropy(logits, self._labels).item(),
        )

    def _after(self, fusions: tuple[StageFusion, ...]) -> _Activations:
        """What the stem and these stages give; the network is on a path that begins with them."""
        if fusions in self._kept:
            self._kept.move_to_end(fusions)
            return self._kept[fusions]
        if fusions:
            stage = len(fusions) - 1
            found = self._through(partial(self.network.stage, stage), stage, self._after(fusions[:-1]))
        else:
            found = self._through(self.network.stem, None, self._images)
        if len(fusions) < STAGES:  # a whole path is not met again
            self._keep(fusions, found)
        return found

    def _through(self, part: Callable[[Tensor], Tensor], stage: int | None, before: _Activations) -> _Activations:
        """Take the norms' statistics from the first stream (the mean of its batches), then evaluate the other."""
        norms = self.network.active_norms(stage)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # asks for the mean
            norm.train()
        stream = [part(images) for images in before.norm_images]
        for norm in norms:
            norm.eval()
        return _Activations(stream, [part(images) for images in before.val])

    def _keep(self, fusions: tuple[StageFusion, ...], found: _Activations) -> None:
        self._kept[fusions] = found
        self._room -= found.num_bytes
        while self._room < 0:
            self._room += self._kept.popitem(last=False)[1].num_bytes


def weights_digest(network: nn.Module) -> str:
    """First 16 hex digits of a SHA-256 over the parameters: two trainings that differ in a bit differ here."""
    content = hashlib.sha256()
    for name, parameter in network.named_parameters():
        content.update(name.encode())
        content.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:16]
