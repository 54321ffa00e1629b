"""timm ResNets that carry a fusion: `FusionResNet`, and one registered entry point for each backbone.

``timm.create_model("fusion_resnet18", fusion=[None, {"pattern": "p1", "attention": "se"}, None, None])``
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast, get_args

from timm.models import (
    DefaultCfg,
    PretrainedCfg,
    build_model_with_cfg,
    create_model,
    get_arch_pretrained_cfgs,
    get_pretrained_cfg,
    register_model,
)
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from nas.architecture import Architecture, NormName, StageFusion, StemName, check_blocks
from nas.backbones import BACKBONES, MICRO, STAGES, BackboneShape
from nas.errors import UserError
from nas.fusion.blocks import FusedBasicBlock, FusedBlock, FusedBottleneck
from nas.fusion.norms import GroupNorm

Fusion = Sequence[Mapping[str, Any] | None]
"""Four entries, first stage first: None, or the fields of a `StageFusion`."""


def parse_fusion(fusion: Fusion | None, shape: BackboneShape) -> tuple[StageFusion, ...]:
    """The canonical fusion of each stage of a backbone; errors name ``fusion.<stage>``, counted from 0."""
    if fusion is None:
        fusion = [None] * STAGES
    if not isinstance(fusion, (list, tuple)):
        raise UserError(f"fusion: expected a list of {STAGES} entries, got {fusion!r}")
    if len(fusion) != STAGES:
        raise UserError(f"fusion: expected {STAGES} entries, got {len(fusion)}")
    stages = [StageFusion.parse({} if s is None else s, f"fusion.{i}") for i, s in enumerate(fusion)]
    try:
        check_blocks(stages, shape, "fusion")
    except ValueError as error:
        raise UserError(str(error)) from None
    return tuple(stage.canonical(shape, i) for i, stage in enumerate(stages))


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{key}: expected one of {', '.join(allowed)}, got {value!r}")


class FusionResNet(ResNet):  # type: ignore[misc]  # timm is untyped
    """A timm ResNet whose blocks may carry attention. Blocks without it are timm's stock blocks.

    Args:
        backbone: a name of `nas.backbones.BACKBONES`.
        fusion: None, or four entries as JSON holds them.
        stem: ``imagenet`` is the backbone's own, of stride 4. ``small`` has stride 1 and no pooling: one 3×3
            convolution, or the three of a deep stem; timm's ``output_stride`` counts as if it had stride 4.
            None: ``small`` for resnet_micro, else ``imagenet``.
        norm: ``batch`` or ``group``, also inside the attention.
        resnet_args: further arguments of timm's ResNet.
    """

    def __init__(
        self,
        backbone: str,
        fusion: Fusion | None = None,
        stem: StemName | None = None,
        norm: NormName = "batch",
        in_chans: int = 3,
        **resnet_args: Any,
    ) -> None:
        _one_of("backbone", backbone, tuple(BACKBONES))
        shape = BACKBONES[backbone]
        stem = stem or ("small" if backbone == MICRO else "imagenet")
        _one_of("stem", stem, get_args(StemName))
        _one_of("norm", norm, get_args(NormName))
        stages = parse_fusion(fusion, shape)
        # timm gives a plain stem 64 channels and a deep one any number: build that, then replace its conv1.
        replaced = shape.stem_type == "" and (stem == "small" or shape.stem_channels != 64)  # noqa: PLR2004
        deep = {"stem_type": "deep", "stem_width": shape.stem_channels // 2}
        super().__init__(
            block=tuple(_block(shape, stage, i) for i, stage in enumerate(stages)),
            layers=shape.layers,
            channels=shape.planes,
            avg_down=shape.avg_down,
            cardinality=shape.cardinality,
            base_width=shape.base_width,
            in_chans=in_chans,
            **(deep if replaced else {"stem_type": shape.stem_type, "stem_width": shape.stem_width}),
            **({"norm_layer": GroupNorm} if norm == "group" else {}),
            **resnet_args,
        )
        self.backbone, self.stem, self.norm, self.fusion = backbone, stem, norm, stages
        self.in_chans = in_chans
        if replaced:
            factory = {"device": resnet_args.get("device"), "dtype": resnet_args.get("dtype")}
            self.conv1 = _plain_stem(in_chans, shape.stem_channels, stem, **factory)
        elif stem == "small":
            self.conv1[0].stride = (1, 1)
        if stem == "small":
            self.maxpool = nn.Identity()
            for info, divisor in zip(self.feature_info, (2, 4, 4, 4, 4), strict=True):
                info["reduction"] //= divisor

    def init_weights(self, zero_init_last: bool = True) -> None:
        """Initialise as timm does, which touches every convolution, and then the fusion."""
        super().init_weights(zero_init_last=zero_init_last)
        for module in self.modules():
            if isinstance(module, FusedBlock):
                module.init_fusion()

    def fusion_keys(self) -> frozenset[str]:
        """The keys of the state dict that the plain network does not have."""
        fused = (f"{name}." for name, module in self.named_modules() if isinstance(module, FusedBlock))
        prefixes = tuple(f"{block}{name}" for block in fused for name in FusedBlock.fusion_names)
        return frozenset(key for key in self.state_dict() if key.startswith(prefixes))


def _plain_stem(in_chans: int, channels: int, stem: StemName, **factory: Any) -> Any:
    """The convolution of a plain stem, initialised as timm does."""
    size, stride = (3, 1) if stem == "small" else (7, 2)
    conv = nn.Conv2d(in_chans, channels, size, stride, padding=size // 2, bias=False, **factory)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _block(shape: BackboneShape, fusion: StageFusion, stage: int) -> Any:
    """The block class of a stage (from 0), as timm's ResNet takes it: called for each block, in their order."""
    plain, fused = (BasicBlock, FusedBasicBlock) if shape.block == "basic" else (Bottleneck, FusedBottleneck)
    carried = (fusion.in_block(block) for block in range(shape.layers[stage]))
    classes = iter([plain if f.is_off else partial(fused, fusion=f) for f in carried])

    def build(*args: Any, **kwargs: Any) -> nn.Module:
        return cast("nn.Module", next(classes)(*args, **kwargs))

    built: Any = build
    built.expansion = plain.expansion  # timm reads it from the class
    return built


def adapt_checkpoint(state: dict[str, Tensor], model: FusionResNet) -> dict[str, Tensor]:
    """Complete the weights of the plain network with the model's own for its fusion and for a replaced stem.

    timm loads without strictness where the classes differ, so that a checkpoint that lacks a layer would be
    taken silently: here it is a `UserError`.
    """
    own = model.state_dict()
    state = dict(state)
    if "bn1.running_mean" in state and "bn1.running_mean" not in own:
        raise UserError("pretrained: these weights are of batch norm, the model has norm: group")
    stem = "conv1.weight"
    if stem in state and stem in own and state[stem].shape[2:] != own[stem].shape[2:]:
        state[stem] = own[stem]
    foreign = [key for key in state if key not in own and not key.startswith("fc.")]
    if foreign:
        raise UserError(f"pretrained: the checkpoint holds {foreign[0]}, which this model does not have")
    if model.fusion_keys().isdisjoint(state):
        state.update({key: own[key] for key in model.fusion_keys()})
    missing = [k for k in own if k not in state and not k.startswith("fc.") and not k.endswith("num_batches_tracked")]
    if missing:
        raise UserError(f"pretrained: the checkpoint lacks {missing[0]} and {len(missing) - 1} more keys of this model")
    return state


def model_args(architecture: Architecture) -> dict[str, Any]:
    """The arguments of `timm.create_model` that build an architecture; JSON can hold them."""
    canonical = architecture.canonical()
    return {
        "fusion": [None if stage.is_off else stage.to_dict() for stage in canonical.stages],
        "stem": canonical.backbone.stem,
        "norm": canonical.norm,
        "num_classes": canonical.num_classes,
        "in_chans": canonical.in_chans,
    }


def build_model(architecture: Architecture) -> FusionResNet:
    """The network of an architecture, freshly initialised from torch's global generator."""
    model = create_model(f"fusion_{architecture.backbone.name}", **model_args(architecture))
    return cast("FusionResNet", model)


def open_branches(model: nn.Module) -> None:
    """Undo timm's `zero_init_last`: the last norm of every residual branch starts with weight 1."""
    for block in model.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
            nn.init.ones_(last.weight)


def _default_cfg(backbone: str) -> DefaultCfg:
    """The weights that a backbone's fusion networks can start from: those of the plain network."""
    if not BACKBONES[backbone].in_timm:
        cfg = PretrainedCfg(input_size=(3, 32, 32), first_conv="conv1", classifier="fc")
        return DefaultCfg(tags=deque([""]), cfgs={"": cfg})
    default = get_pretrained_cfg(backbone)
    cfgs = {cfg.tag or "": cfg for cfg in get_arch_pretrained_cfgs(backbone).values()}
    tags = deque(sorted(cfgs, key=lambda tag: tag != (default.tag or "")))
    return DefaultCfg(tags=tags, cfgs=cfgs, is_pretrained=default.has_weights)


def _entry_point(backbone: str) -> Callable[..., nn.Module]:
    """The function that timm calls for ``fusion_<backbone>``."""

    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return cast(
            "nn.Module",
            build_model_with_cfg(
                FusionResNet,
                create.__name__,
                pretrained,
                pretrained_filter_fn=adapt_checkpoint,
                backbone=backbone,
                **kwargs,
            ),
        )

    create.__name__ = create.__qualname__ = f"fusion_{backbone}"
    create.__doc__ = f"{backbone} with ``fusion``, ``stem`` and ``norm``: see `FusionResNet`."
    return create


default_cfgs = {f"fusion_{backbone}": _default_cfg(backbone) for backbone in BACKBONES}
for _backbone in BACKBONES:
    globals()[f"fusion_{_backbone}"] = register_model(_entry_point(_backbone))
