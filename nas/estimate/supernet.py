"""One network that holds every choice of a search space, as paths through shared weights.

Single paths through shared weights are trained as in Z. Guo et al., Single Path One-Shot Neural Architecture
Search with Uniform Sampling, 2019 (https://arxiv.org/abs/1904.00420). A path computes exactly what the stand-alone
network of that architecture computes with the same weights: its blocks are `nas.fusion.blocks.FusedBlock`, which
find their masks and strengths where `SharedNetwork.set_path` puts them.
"""

import itertools
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.architecture import Architecture, NormName, StageFusion
from nas.backbones import STAGES
from nas.errors import UserError
from nas.estimate.block_choices import BlockChoices
from nas.fusion.blocks import FusedBlock
from nas.fusion.models import build_model
from nas.fusion.norms import GroupNorm
from nas.space.space import SearchSpace
from nas.space.vocabulary import FIELDS, StageChoices


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
