"""An architecture as a picture: one fused block of each stage, with the attention where its pattern puts it."""

from dataclasses import dataclass

from nas.architecture import Architecture, StageFusion, hidden_channels

PATTERN_TITLES = {
    "none": "plain",
    "p1": "in the branch",
    "p2": "after the addition",
    "p3": "before the branch",
    "p4": "on both paths",
}


@dataclass(frozen=True, kw_only=True)
class StageDrawing:
    """What the picture of one stage shows."""

    stage: int
    """From 1."""
    channels: int
    num_blocks: int
    fused_blocks: tuple[int, ...]
    """The blocks that carry the fusion, from 0; the others are plain."""
    pattern: str
    title: str
    before: str | None = None
    """Attention in front of the residual branch (p3)."""
    branch: str | None = None
    """Attention behind the residual branch (p1, p4)."""
    skip: str | None = None
    """Attention on the skip path (p4)."""
    after: str | None = None
    """Attention behind the addition (p2)."""
    details: tuple[str, ...] = ()
    """Strength and start of the gates, in words."""

    @property
    def mixes_blocks(self) -> bool:
        """Whether some blocks carry the fusion and others are plain."""
        return 0 < len(self.fused_blocks) < self.num_blocks

    @property
    def spoken(self) -> str:
        """The picture in words."""
        return f"Stage {self.stage}: {', '.join((self.title, *self.attentions, *self.details))}"

    @property
    def attentions(self) -> tuple[str, ...]:
        """The attention modules in the order of the forward pass."""
        return tuple(name for name in (self.before, self.skip, self.branch, self.after) if name)


def stage_drawings(architecture: Architecture) -> tuple[StageDrawing, ...]:
    """The pictures of the four stages."""
    shape = architecture.backbone.shape
    return tuple(
        _drawing(fusion, index, shape.channels[index], shape.layers[index])
        for index, fusion in enumerate(architecture.canonical().stages)
    )


def _drawing(fusion: StageFusion, index: int, channels: int, num_blocks: int) -> StageDrawing:
    places = {"p1": "branch", "p2": "after", "p3": "before", "p4": "branch"}
    boxes: dict[str, str] = {}
    if not fusion.is_off:
        boxes[places[fusion.pattern]] = str(fusion.attention)
    if fusion.acts_on_skip:
        boxes["skip"] = fusion.skip_attention
    return StageDrawing(
        stage=index + 1,
        channels=channels,
        num_blocks=num_blocks,
        fused_blocks=tuple(block for block in range(num_blocks) if not fusion.in_block(block).is_off),
        pattern=fusion.pattern,
        title=PATTERN_TITLES[fusion.pattern],
        details=_details(fusion, index, channels),
        **boxes,
    )


def _details(fusion: StageFusion, index: int, channels: int) -> tuple[str, ...]:
    if fusion.is_off:
        return ()
    mode = "from" if fusion.learnable else "="
    details = [f"λ {mode} {fusion.lambda_init:g}"]
    if fusion.pattern == "p4":
        details = [f"γ skip {mode} {fusion.gamma_skip_init:g}"] if fusion.acts_on_skip else []
        details.append(f"γ branch {mode} {fusion.gamma_residual_init:g}")
    details.append("learnable" if fusion.learnable else "fixed")
    if "reduction" in fusion.active_fields and fusion.pattern != "p3":
        details.append(f"hidden width {hidden_channels(channels, fusion.reduction)}")
    details.append(f"{fusion.gate_init} gates")
    if fusion.blocks is not None:  # as timm names them
        details.append("only in " + ", ".join(f"layer{index + 1}.{block}" for block in fusion.blocks))
    return tuple(details)
