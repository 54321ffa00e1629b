"""The known networks that every study measures first, so that no result stands without them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from nas.architecture import Architecture, Backbone, NormName, StageFusion
from nas.backbones import STAGES
from nas.errors import UserError

if TYPE_CHECKING:
    from nas.space.space import SearchSpace


@dataclass(frozen=True)
class Landmark:
    """A fusion that is known from the literature, or the network without any."""

    description: str
    """One line for people."""
    stages: tuple[StageFusion, ...]
    """Four entries, first stage first."""


_PLAIN = StageFusion()
_DUAL = StageFusion(
    pattern="p4",
    attention="cbam",
    skip_attention="eca",
    gamma_skip_init=0.0,
    gamma_residual_init=0.1,
    learnable=True,
)

LANDMARKS: Mapping[str, Landmark] = MappingProxyType(
    {
        "plain": Landmark("the ResNet itself, without attention", (_PLAIN,) * STAGES),
        "se-everywhere": Landmark(
            "squeeze-and-excitation inside every residual branch, as in SENet (P1, SE, r=16, λ=1)",
            (StageFusion(pattern="p1", attention="se"),) * STAGES,
        ),
        "cbam-everywhere": Landmark(
            "channel and spatial attention inside every residual branch (P1, CBAM, r=16, λ=1)",
            (StageFusion(pattern="p1", attention="cbam"),) * STAGES,
        ),
        "se-post": Landmark(
            "squeeze-and-excitation after every addition (P2, SE, r=16, λ=1)",
            (StageFusion(pattern="p2", attention="se"),) * STAGES,
        ),
        "se-pre": Landmark(
            "squeeze-and-excitation before every residual branch (P3, SE, r=16, λ=1)",
            (StageFusion(pattern="p3", attention="se"),) * STAGES,
        ),
        "dual-default": Landmark(
            "stages 3 and 4: ECA on the skip, CBAM on the branch (P4, learnable from γ 0 and 0.1)",
            (_PLAIN, _PLAIN, _DUAL, _DUAL),
        ),
    }
)


def landmark(
    name: str, *, backbone: Backbone, num_classes: int, in_chans: int, norm: NormName = "batch"
) -> Architecture:
    """The landmark ``name`` on a backbone; an unknown name is a `UserError` that lists the known ones."""
    if name not in LANDMARKS:
        raise UserError(f"unknown landmark {name!r}; known: {', '.join(LANDMARKS)}")
    return Architecture(
        backbone=backbone,
        num_classes=num_classes,
        in_chans=in_chans,
        norm=norm,
        stages=LANDMARKS[name].stages,
    )


def landmark_in(space: "SearchSpace", name: str) -> Architecture:
    """The landmark ``name`` for the task of a space, with its first norm; the space need not hold it."""
    return landmark(
        name,
        backbone=space.backbone,
        num_classes=space.num_classes,
        in_chans=space.in_chans,
        norm=space.norm[0],
    )


def landmarks(
    *, backbone: Backbone, num_classes: int, in_chans: int, norm: NormName = "batch"
) -> dict[str, Architecture]:
    """All landmarks on a backbone, by name, `plain` first."""
    return {
        name: landmark(name, backbone=backbone, num_classes=num_classes, in_chans=in_chans, norm=norm)
        for name in LANDMARKS
    }
