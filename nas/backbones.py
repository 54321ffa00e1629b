"""Facts about the timm ResNets that can carry a fusion, without importing torch.

Each entry repeats the arguments with which timm builds the plain network of that name;
``tests/fusion/test_models.py`` holds every entry against timm itself.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

STAGES = 4


@dataclass(frozen=True, kw_only=True)
class BackboneShape:
    """How a plain ResNet is laid out."""

    block: Literal["basic", "bottleneck"]
    layers: tuple[int, int, int, int]
    """Blocks per stage."""
    planes: tuple[int, int, int, int] = (64, 128, 256, 512)
    stem_width: int = 64
    stem_type: Literal["", "deep", "deep_tiered"] = ""
    avg_down: bool = False
    cardinality: int = 1
    base_width: int = 64
    in_timm: bool = True
    """Whether timm has a plain network of this name; `resnet50t` and `resnet200` have no weights there."""

    @property
    def stem_channels(self) -> int:
        """Channels that the first stage receives."""
        if not self.in_timm:
            return self.planes[0]
        return self.stem_width * 2 if "deep" in self.stem_type else 64

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of each stage."""
        expansion = 1 if self.block == "basic" else 4
        return tuple(width * expansion for width in self.planes)

    def input_channels(self, stage: int, blocks: Collection[int] | None = None) -> tuple[int, ...]:
        """The distinct numbers of channels that the blocks of a stage receive; stages and blocks count from 0.

        ``blocks`` are those in question; None: all.
        """
        before = self.stem_channels if stage == 0 else self.channels[stage - 1]
        asked = range(self.layers[stage]) if blocks is None else blocks
        return tuple(sorted({self.channels[stage] if block else before for block in asked}))


def _basic(*layers: int, **more: object) -> BackboneShape:
    return BackboneShape(block="basic", layers=layers, **more)  # type: ignore[arg-type]  # forwarded as given


def _bottleneck(*layers: int, **more: object) -> BackboneShape:
    return BackboneShape(block="bottleneck", layers=layers, **more)  # type: ignore[arg-type]  # as above


_C: dict[str, object] = {"stem_width": 32, "stem_type": "deep"}
_D: dict[str, object] = {**_C, "avg_down": True}
_S: dict[str, object] = {"stem_width": 64, "stem_type": "deep"}
_T: dict[str, object] = {"stem_width": 32, "stem_type": "deep_tiered", "avg_down": True}

TIMM = "timm:"
"""Stands before the name of weights that timm downloads."""

MICRO = "resnet_micro"

BACKBONES: dict[str, BackboneShape] = {
    MICRO: _basic(1, 1, 1, 1, planes=(16, 32, 64, 128), in_timm=False),
    "resnet10t": _basic(1, 1, 1, 1, **_T),
    "resnet14t": _bottleneck(1, 1, 1, 1, **_T),
    "resnet18": _basic(2, 2, 2, 2),
    "resnet18d": _basic(2, 2, 2, 2, **_D),
    "resnet26": _bottleneck(2, 2, 2, 2),
    "resnet26t": _bottleneck(2, 2, 2, 2, **_T),
    "resnet26d": _bottleneck(2, 2, 2, 2, **_D),
    "resnet34": _basic(3, 4, 6, 3),
    "resnet34d": _basic(3, 4, 6, 3, **_D),
    "resnet50": _bottleneck(3, 4, 6, 3),
    "resnet50c": _bottleneck(3, 4, 6, 3, **_C),
    "resnet50d": _bottleneck(3, 4, 6, 3, **_D),
    "resnet50s": _bottleneck(3, 4, 6, 3, **_S),
    "resnet50t": _bottleneck(3, 4, 6, 3, **_T),
    "resnet101": _bottleneck(3, 4, 23, 3),
    "resnet101c": _bottleneck(3, 4, 23, 3, **_C),
    "resnet101d": _bottleneck(3, 4, 23, 3, **_D),
    "resnet101s": _bottleneck(3, 4, 23, 3, **_S),
    "resnet152": _bottleneck(3, 8, 36, 3),
    "resnet152c": _bottleneck(3, 8, 36, 3, **_C),
    "resnet152d": _bottleneck(3, 8, 36, 3, **_D),
    "resnet152s": _bottleneck(3, 8, 36, 3, **_S),
    "resnet200": _bottleneck(3, 24, 36, 3),
    "resnet200d": _bottleneck(3, 24, 36, 3, **_D),
    "wide_resnet50_2": _bottleneck(3, 4, 6, 3, base_width=128),
    "wide_resnet101_2": _bottleneck(3, 4, 23, 3, base_width=128),
    "resnext50_32x4d": _bottleneck(3, 4, 6, 3, cardinality=32, base_width=4),
    "resnext50d_32x4d": _bottleneck(3, 4, 6, 3, cardinality=32, base_width=4, **_D),
    "resnext101_32x4d": _bottleneck(3, 4, 23, 3, cardinality=32, base_width=4),
    "resnext101_32x8d": _bottleneck(3, 4, 23, 3, cardinality=32, base_width=8),
    "resnext101_64x4d": _bottleneck(3, 4, 23, 3, cardinality=64, base_width=4),
}
