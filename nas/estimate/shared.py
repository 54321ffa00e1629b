"""One network that holds every choice of a search space, and scores architectures without training them.

Single paths through shared weights are trained as in Z. Guo et al., Single Path One-Shot Neural Architecture
Search with Uniform Sampling, 2019 (https://arxiv.org/abs/1904.00420); the options of a choice come equally often,
after X. Chu et al., FairNAS, 2019 (https://arxiv.org/abs/1907.01845). A path computes exactly what the stand-alone
network of that architecture computes with the same weights: its blocks are `nas.fusion.blocks.FusedBlock`, which
find their masks and strengths where `SharedNetwork.set_path` puts them.
"""

import hashlib
import itertools
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.architecture import (
    MIN_HIDDEN,
    Architecture,
    AttentionName,
    GateInit,
    NormName,
    PatternName,
    StageFusion,
    hidden_channels,
)
from nas.backbones import STAGES
from nas.errors import UserError
from nas.estimate.brief import brief_config
from nas.estimate.config import EstimateConfig, Measure
from nas.fusion.blocks import FusedBasicBlock, FusedBlock
from nas.fusion.masks import Mask, create_mask
from nas.fusion.models import build_model
from nas.fusion.norms import GroupNorm
from nas.measurement import EpochRecord, Interrupted
from nas.space.space import SearchSpace
from nas.space.vocabulary import FIELDS, Option, StageChoices
from nas.training.checkpoint import Checkpoint
from nas.training.config import TrainingConfig
from nas.training.data.source import DataSource
from nas.training.run import OnEpoch, ShouldStop, starts_at_zero
from nas.training.shared_run import fit_shared

RECIPE = 1
"""Counts up when a shared network of the same configuration would come out different."""

_SLOT: dict[PatternName, str] = {"p1": "se", "p2": "post", "p3": "pre", "p4": "residual_attention"}
"""Where a `FusedBlock` of each pattern keeps its mask."""
_SCALARS = ("lam", "gamma_skip", "gamma_gap")

NORM_IMAGES = 256
"""Training images from which the batch-norm statistics of a path are taken."""
SCORE_BATCH = 256
"""Images in a batch of scoring: few large steps cost less than many small ones."""
CACHE_BYTES = 256 * 2**20
"""Memory for what first stages gave."""
LOCK_WAIT_S = 0.5
"""How long a process waits for a network that another trains before it looks at the next."""
STREAM_SEED = 0
"""Of the order and augmentation of those images: the same for every path."""


@dataclass(frozen=True)
class _MaskKey:
    """What tells the masks of one block apart; λ and γ do not."""

    slot: str
    attention: AttentionName
    hidden: int | None
    gate_init: GateInit

    def __str__(self) -> str:
        return "-".join(str(part) for part in (self.slot, self.attention, self.hidden, self.gate_init))


class BlockChoices(nn.Module):
    """The masks and learned strengths of one block, among which a path chooses."""

    def __init__(self, block: FusedBlock, fusions: Sequence[StageFusion], norm_layer: type[nn.Module]) -> None:
        super().__init__()
        self.inplanes: int = block.conv1.in_channels
        self.channels: int = (block.conv3 if hasattr(block, "conv3") else block.conv2).out_channels
        self.masks = nn.ModuleDict()
        self.strengths = nn.ModuleDict()
        for fusion in fusions:
            for key in self._mask_keys(fusion):
                if str(key) not in self.masks:
                    self._add_mask(key, fusion.reduction, norm_layer)
            if fusion.learnable and _strength_key(fusion) not in self.strengths:
                self.strengths[_strength_key(fusion)] = Strength(fusion)

    def _width(self, slot: str) -> int:
        return self.inplanes if slot == "pre" else self.channels

    def _mask_keys(self, fusion: StageFusion) -> list[_MaskKey]:
        if fusion.is_off or fusion.attention is None:
            return []
        places: list[tuple[str, AttentionName]] = [(_SLOT[fusion.pattern], fusion.attention)]
        if fusion.acts_on_skip:
            places.append(("skip_attention", fusion.skip_attention))
        return [
            _MaskKey(
                slot,
                attention,
                None if attention == "eca" else hidden_channels(self._width(slot), fusion.reduction),
                fusion.gate_init,
            )
            for slot, attention in places
        ]

    def _add_mask(self, key: _MaskKey, reduction: int, norm_layer: type[nn.Module]) -> None:
        self.masks[str(key)] = create_mask(
            key.attention,
            self._width(key.slot),
            reduction=reduction,
            gate_init=key.gate_init,
            norm_layer=norm_layer,
        )

    def open_gates(self) -> None:
        """Open the gates that start open, once timm's initialisation has touched their convolutions."""
        for name, mask in self.masks.items():
            if name.endswith("-open") and isinstance(mask, Mask):
                mask.open_gates()

    def holds(self, fusion: StageFusion) -> bool:
        """Whether a path of this canonical fusion leads through the block."""
        masks = all(str(key) in self.masks for key in self._mask_keys(fusion))
        return masks and (not fusion.learnable or _strength_key(fusion) in self.strengths)

    def direct(self, block: FusedBlock, fusion: StageFusion) -> None:
        """Make the block compute as a `FusedBlock` of this canonical fusion does.

        The parts are set past `nn.Module.__setattr__`: they belong to this module, and registered a second time
        they would change the keys of the state dict with the path.
        """
        for name, part in self._parts(fusion).items():
            object.__setattr__(block, name, part)
        block.fusion = fusion
        block.fixed_lambda = fusion.lambda_init
        block.fixed_gamma_skip = fusion.gamma_skip_init
        block.fixed_gamma_residual = fusion.gamma_residual_init

    def _parts(self, fusion: StageFusion) -> dict[str, nn.Module | nn.Parameter | None]:
        """What a `FusedBlock` of this canonical fusion has under each of its own names."""
        parts: dict[str, nn.Module | nn.Parameter | None] = dict.fromkeys(FusedBlock.fusion_names)
        parts |= {key.slot: self.masks[str(key)] for key in self._mask_keys(fusion)}
        if fusion.learnable:
            parts |= self.strengths[_strength_key(fusion)].named_parameters()
        return parts


class Strength(nn.Module):
    """The learned λ, or γs, of one block: those that a `FusedBlock` of ``fusion`` has, at their start."""

    def __init__(self, fusion: StageFusion) -> None:
        super().__init__()
        donor = FusedBasicBlock(MIN_HIDDEN, MIN_HIDDEN, fusion=fusion)
        for name in _SCALARS:
            self.register_parameter(name, getattr(donor, name))


def _strength_key(fusion: StageFusion) -> str:
    start = (fusion.gamma_skip_init, fusion.gamma_residual_init) if fusion.pattern == "p4" else (fusion.lambda_init,)
    return "-".join((fusion.pattern, str(fusion.attention), *map(str, start))).replace(".", "_")


class SharedNetwork(nn.Module):
    """Every architecture of a space under one normalisation, as paths through shared weights.

    The backbone is shared by all. Each block has one mask for each place, attention, hidden width and gate, and
    one λ or pair of γs for each pattern, attention and start: architectures that agree in these share them.
    A fixed λ or γ is a constant of the path.
    """

    def __init__(self, space: SearchSpace, norm: NormName) -> None:
        super().__init__()
        self.space, self.norm = of_norm(space, norm), norm
        self.network = build_model(
            Architecture(
                backbone=space.backbone,
                num_classes=space.num_classes,
                in_chans=space.in_chans,
                norm=norm,
                stages=(StageFusion(pattern="p1", attention="eca"),) * STAGES,  # so that every block is a FusedBlock
            )
        )
        for stage, choices in enumerate(space.stages):
            fusions = _fusions(space, choices, stage)
            for block in self._stage(stage):
                block.se = None
                block.choices = BlockChoices(block, fusions, GroupNorm if norm == "group" else nn.BatchNorm2d)
        self.network.init_weights()
        for block in self._blocks:
            block.choices.open_gates()
        self.set_path(Architecture.plain(**self._task))

    @property
    def _task(self) -> dict[str, Any]:
        space = self.space
        return {
            "backbone": space.backbone,
            "num_classes": space.num_classes,
            "in_chans": space.in_chans,
            "norm": self.norm,
        }

    def _stage(self, stage: int) -> list[FusedBlock]:
        """The blocks of a stage (from 0)."""
        return list(getattr(self.network, f"layer{stage + 1}"))

    @property
    def _blocks(self) -> list[FusedBlock]:
        return [block for stage in range(STAGES) for block in self._stage(stage)]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W), on the path at hand."""
        return self.network(images)  # type: ignore[no-any-return]  # timm is untyped

    def stem(self, images: Tensor) -> Tensor:
        """What the first stage gets."""
        net = self.network
        return net.maxpool(net.act1(net.bn1(net.conv1(images))))  # type: ignore[no-any-return]  # as above

    def stage(self, number: int, features: Tensor) -> Tensor:
        """What a stage (from 0) makes of its input, on the path at hand."""
        return getattr(self.network, f"layer{number + 1}")(features)  # type: ignore[no-any-return]  # as above

    def head(self, features: Tensor) -> Tensor:
        """Logits from what the last stage gave."""
        return self.network.forward_head(features)  # type: ignore[no-any-return]  # as above

    def holds(self, architecture: Architecture) -> bool:
        """Whether the architecture is a path of this network; landmarks outside the space need not be."""
        target = architecture.canonical()
        return {name: getattr(target, name) for name in self._task} == self._task and all(
            block.choices.holds(fusion.in_block(number))
            for stage, fusion in enumerate(target.stages)
            for number, block in enumerate(self._stage(stage))
        )

    def set_path(self, architecture: Architecture) -> None:
        """Compute as this architecture from now on; a `UserError` where the network does not hold it."""
        if not self.holds(architecture):
            raise UserError(
                f"architecture {architecture.digest} ({architecture}): the shared network of space "
                f"{self.space.name!r} with norm {self.norm} does not hold it"
            )
        for stage, fusion in enumerate(architecture.canonical().stages):
            for number, block in enumerate(self._stage(stage)):
                block.choices.direct(block, fusion.in_block(number))

    def extract(self, architecture: Architecture) -> dict[str, Tensor]:
        """The path's weights and statistics as a state dict for `nas.fusion.build_model` (copies)."""
        self.set_path(architecture)
        state = {key: value for key, value in self.network.state_dict().items() if ".choices." not in key}
        for name, block in self.network.named_modules():
            if isinstance(block, FusedBlock):
                for slot in FusedBlock.fusion_names:
                    part = getattr(block, slot)
                    if isinstance(part, nn.Parameter):
                        state[f"{name}.{slot}"] = part.detach()
                    elif part is not None:
                        state |= {f"{name}.{slot}.{key}": value for key, value in part.state_dict().items()}
        return {key: value.clone() for key, value in state.items()}

    def active_norms(self, stage: int | None) -> list[_BatchNorm]:
        """The batch norms of a stage (from 0) on the path at hand; None: of the stem."""
        if stage is None:
            return [norm for norm in self.network.bn1.modules() if isinstance(norm, _BatchNorm)]
        norms = []
        for block in self._stage(stage):
            children = (child for name, child in block.named_children() if name != "choices")
            masks = (part for slot in FusedBlock.fusion_names if isinstance(part := getattr(block, slot), nn.Module))
            norms += [
                module for part in (*children, *masks) for module in part.modules() if isinstance(module, _BatchNorm)
            ]
        return norms


def of_norm(space: SearchSpace, norm: NormName) -> SearchSpace:
    """The part of a space under one normalisation, which is what one network can share."""
    return replace(space, norm=(norm,))


def _fusions(space: SearchSpace, choices: StageChoices, stage: int) -> tuple[StageFusion, ...]:
    """The canonical fusions that the options of a stage allow."""
    drawn = itertools.product(*(choices.options(field) for field in FIELDS))
    fusions = (StageFusion.model_validate(dict(zip(FIELDS, values, strict=True))) for values in drawn)
    return tuple(dict.fromkeys(fusion.canonical(space.backbone.shape, stage) for fusion in fusions))


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
                rights = folder.stat().st_mode & 0o666
                with FileLock(folder / f"shared-{digest}.lock", timeout=LOCK_WAIT_S, mode=rights):
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
