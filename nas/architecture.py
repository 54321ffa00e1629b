"""What one candidate is: frozen values with one canonical form, one digest and one file format."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from nas.backbones import BACKBONES, STAGES, BackboneShape
from nas.documents import Document, dump_document, read_document, write_atomically
from nas.errors import UserError

SCHEMA = 1

PatternName = Literal["none", "p1", "p2", "p3", "p4"]
AttentionName = Literal["se", "eca", "cbam", "coord"]
SkipAttentionName = Literal["eca", "se"]
GateInit = Literal["textbook", "open"]
StemName = Literal["imagenet", "small"]
NormName = Literal["batch", "group"]

PATTERNS: tuple[PatternName, ...] = get_args(PatternName)
ATTENTIONS: tuple[AttentionName, ...] = get_args(AttentionName)

MIN_HIDDEN = 4
GAMMA_MARGIN = 1e-4
"""Smallest distance that γ_residual keeps above γ_skip while both learn."""


def hidden_channels(channels: int, reduction: int) -> int:
    """Width of an attention bottleneck: ``max(channels // reduction, 4)``."""
    return max(channels // reduction, MIN_HIDDEN)


class StageFusion(Document):
    """How attention is fused into the blocks of one stage. Fields that a pattern does not use are inert."""

    pattern: PatternName = "none"
    """Fusion pattern: none, p1 (inside the branch), p2 (after the addition), p3 (before), p4 (both paths)."""
    attention: AttentionName | None = None
    """Attention module; in p4 the one on the residual branch."""
    skip_attention: SkipAttentionName = "eca"
    """p4 only: the light attention on the skip path."""
    reduction: Annotated[StrictInt, Field(ge=1)] = 16
    """Divides the channels to the hidden width of the attention; `eca` has none."""
    lambda_init: Annotated[float, Field(ge=0, le=1)] = 1.0
    """p1-p3: λ at the start; 0 is the plain block, 1 the textbook pattern."""
    gamma_skip_init: Annotated[float, Field(ge=0)] = 0.0
    """p4: strength on the skip path at the start."""
    gamma_residual_init: Annotated[float, Field(ge=0)] = 0.1
    """p4: strength on the residual branch at the start; above gamma_skip_init."""
    learnable: StrictBool = False
    """Whether λ or γ are learned scalars of each block, or constants."""
    gate_init: GateInit = "textbook"
    """`textbook` gates start near 0.5; `open` gates are 2·sigmoid and start at exactly 1."""
    blocks: tuple[Annotated[StrictInt, Field(ge=0)], ...] | None = None
    """The blocks of the stage that carry the fusion, from 0 as in timm's `layer3.0`; the rest are plain. Unset: all."""

    @field_validator("lambda_init", "gamma_skip_init", "gamma_residual_init")
    @classmethod
    def _positive_zero(cls, value: float) -> float:
        return value + 0.0  # -0.0 and 0.0 are one constant

    @field_validator("blocks")
    @classmethod
    def _ordered(cls, blocks: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if blocks is None else tuple(sorted(set(blocks)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pattern != "none" and self.attention is None:
            raise ValueError(f"pattern {self.pattern} needs attention: one of {', '.join(ATTENTIONS)}")
        if self.pattern == "p4":
            self._check_gammas()
        return self

    def _check_gammas(self) -> None:
        gap = self.gamma_residual_init - self.gamma_skip_init
        switched_off = not self.learnable and self.gamma_skip_init == self.gamma_residual_init == 0
        if gap <= (GAMMA_MARGIN if self.learnable else 0) and not switched_off:
            raise ValueError(
                "p4 needs gamma_skip_init < gamma_residual_init"
                + (f" by more than {GAMMA_MARGIN:g}" if self.learnable else "")
                + f", got {self.gamma_skip_init:g} and {self.gamma_residual_init:g}"
            )

    @property
    def acts_on_skip(self) -> bool:
        """Whether a module on the skip path can ever do something (p4 with γ_skip not fixed at 0)."""
        return self.pattern == "p4" and (self.learnable or self.gamma_skip_init > 0)

    @property
    def is_off(self) -> bool:
        """Whether every block is the plain residual block, now and after any training."""
        if self.pattern == "none" or self.blocks == ():
            return True
        strength = self.gamma_residual_init if self.pattern == "p4" else self.lambda_init
        return not self.learnable and strength == 0

    @property
    def active_fields(self) -> tuple[str, ...]:
        """The fields that change what the network computes, in file order."""
        if self.is_off:
            return ("pattern",)
        names = ["pattern", "attention"]
        if self.acts_on_skip:
            names.append("skip_attention")
        if self.attention != "eca" or (self.acts_on_skip and self.skip_attention == "se"):
            names.append("reduction")
        names += ["gamma_skip_init", "gamma_residual_init"] if self.pattern == "p4" else ["lambda_init"]
        names += ["learnable", "gate_init"]
        return tuple(names) if self.blocks is None else (*names, "blocks")

    def in_block(self, block: int) -> "StageFusion":
        """What a block of the stage (from 0) carries, as the fusion of a stage of which every block carries it."""
        if self.blocks is None:
            return self
        return self.model_copy(update={"blocks": None}) if block in self.blocks else StageFusion()

    def canonical(self, shape: BackboneShape, stage: int) -> "StageFusion":
        """The one spelling of this fusion in ``stage`` (from 0) of a backbone: inert fields at their defaults."""
        if self.is_off:
            return StageFusion()
        active = {name: getattr(self, name) for name in self.active_fields}
        if self.blocks == tuple(range(shape.layers[stage])):
            del active["blocks"]
        if "reduction" in active:
            widths = shape.input_channels(stage, self.blocks) if self.pattern == "p3" else (shape.channels[stage],)
            active["reduction"] = _canonical_reduction(self.reduction, widths)
        return StageFusion(**active)

    def to_dict(self) -> dict[str, Any]:
        """The active fields as plain values."""
        if self.is_off:
            return {"pattern": "none"}
        fields = {name: getattr(self, name) for name in self.active_fields}
        return fields if self.blocks is None else {**fields, "blocks": list(self.blocks)}

    def __str__(self) -> str:
        if self.is_off:
            return "none"
        attention = f"{self.attention}/{self.reduction}" if "reduction" in self.active_fields else self.attention
        if self.pattern == "p4":
            skip = f"{self.skip_attention}·{self.gamma_skip_init:g}+" if self.acts_on_skip else ""
            text = f"p4 {skip}{attention}·{self.gamma_residual_init:g}"
        else:
            text = f"{self.pattern} {attention} λ{self.lambda_init:g}"
        text += ("~" if self.learnable else "") + (" open" if self.gate_init == "open" else "")
        return text if self.blocks is None else f"{text} @{','.join(map(str, self.blocks))}"


def check_blocks(stages: Sequence[StageFusion], shape: BackboneShape, key: str) -> None:
    """Raise `ValueError` where a stage names a block that the backbone does not have; ``key`` leads to the stages."""
    for number, (stage, num_blocks) in enumerate(zip(stages, shape.layers, strict=True)):
        if stage.blocks and stage.blocks[-1] >= num_blocks:
            raise ValueError(
                f"{key}.{number}.blocks: this stage of the backbone has the blocks 0 to {num_blocks - 1}, "
                f"got {stage.blocks[-1]}"
            )


def _canonical_reduction(reduction: int, channels: tuple[int, ...]) -> int:
    """The reduction that stands for all with the same hidden widths: a power of two if one has them."""

    def widths(r: int) -> tuple[int, ...]:
        return tuple(hidden_channels(c, r) for c in channels)

    wanted = widths(reduction)
    powers = (2**k for k in range(max(channels).bit_length() + 1))
    return next((r for r in (*powers, *range(1, reduction + 1)) if widths(r) == wanted), reduction)


class Backbone(Document):
    """The plain network that carries the fusion."""

    name: str
    """A timm ResNet of BasicBlock or Bottleneck, or `resnet_micro`."""
    stem: StemName = "imagenet"
    """`imagenet`: timm's stem, stride 4. `small`: one 3×3 convolution, stride 1, no pooling."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        name = name.removeprefix("fusion_")
        if name not in BACKBONES:
            raise ValueError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}")
        return name

    @property
    def shape(self) -> BackboneShape:
        """Layout of the plain network."""
        return BACKBONES[self.name]


class Architecture(Document):
    """One network of the search: a backbone, its input and output, and the fusion of each stage."""

    backbone: Backbone
    """The plain network."""
    num_classes: Annotated[StrictInt, Field(ge=1)]
    """Classes of the task."""
    in_chans: Annotated[StrictInt, Field(ge=1)] = 3
    """Channels of an input image."""
    norm: NormName = "batch"
    """Normalisation of the whole network."""
    stages: tuple[StageFusion, ...]
    """Four entries, first stage first."""

    @field_validator("stages")
    @classmethod
    def _four(cls, stages: tuple[StageFusion, ...]) -> tuple[StageFusion, ...]:
        if len(stages) != STAGES:
            raise ValueError(f"expected {STAGES} stages, got {len(stages)}")
        return stages

    @model_validator(mode="after")
    def _blocks_exist(self) -> Self:
        check_blocks(self.stages, self.backbone.shape, "stages")
        return self

    @classmethod
    def plain(cls, backbone: Backbone, *, num_classes: int, in_chans: int = 3, norm: NormName = "batch") -> Self:
        """The network without any fusion."""
        return cls(
            backbone=backbone,
            num_classes=num_classes,
            in_chans=in_chans,
            norm=norm,
            stages=(StageFusion(),) * STAGES,
        )

    @property
    def is_plain(self) -> bool:
        """Whether no stage carries attention."""
        return all(stage.is_off for stage in self.stages)

    def canonical(self) -> "Architecture":
        """The one spelling of this network: what does nothing is dropped."""
        stages = tuple(s.canonical(self.backbone.shape, i) for i, s in enumerate(self.stages))
        return self.model_copy(update={"stages": stages})

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical form; equal for equal networks."""
        text = json.dumps(self.canonical().to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The content of an architecture file, without digest and provenance."""
        return {
            "schema": SCHEMA,
            "backbone": self.backbone.model_dump(),
            "num_classes": self.num_classes,
            "in_chans": self.in_chans,
            "norm": self.norm,
            "stages": [stage.to_dict() for stage in self.stages],
        }

    @classmethod
    def from_dict(cls, content: object, source: str = "architecture") -> Self:
        """The architecture that a file's content describes; ``source`` begins every error."""
        if not isinstance(content, Mapping):
            raise UserError(f"{source}: expected a mapping of keys, got {type(content).__name__}")
        fields = dict(content)
        schema, digest = fields.pop("schema", None), fields.pop("digest", None)
        fields.pop("provenance", None)
        if schema != SCHEMA:
            hint = "; a newer fusion-nas wrote it" if isinstance(schema, int) and schema > SCHEMA else ""
            raise UserError(f"{source}: schema: expected {SCHEMA}, got {schema!r}{hint}")
        architecture = cls.parse(fields, source)
        if digest is not None and str(digest) != architecture.digest:
            raise UserError(
                f"{source}: digest: {digest} does not belong to this architecture ({architecture.digest}); "
                "the file was changed after it was written: remove the digest if that was meant"
            )
        return architecture

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an architecture file (YAML or JSON); the digest is checked where there is one."""
        return cls.from_dict(read_document(Path(path)), str(path))

    def save(self, path: str | Path, provenance: Mapping[str, object] | None = None) -> None:
        """Write an architecture file, YAML or JSON by its ending, atomically."""
        content = {**self.to_dict(), "digest": self.digest}
        if provenance is not None:
            content["provenance"] = dict(provenance)
        write_atomically(Path(path), dump_document(content, Path(path)))

    def __str__(self) -> str:
        return " | ".join(str(stage) for stage in self.stages)
