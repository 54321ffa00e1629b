"""The masks and learned strengths of one block of a shared network, among which a path chooses."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from nas.architecture import MIN_HIDDEN, AttentionName, GateInit, PatternName, StageFusion, hidden_channels
from nas.fusion.blocks import FusedBasicBlock, FusedBlock
from nas.fusion.masks import Mask, create_mask

_SLOT: dict[PatternName, str] = {"p1": "se", "p2": "post", "p3": "pre", "p4": "residual_attention"}
"""Where a `FusedBlock` of each pattern keeps its mask."""
_SCALARS = ("lam", "gamma_skip", "gamma_gap")


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
