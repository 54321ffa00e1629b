"""Attention as a mask m(t) that can be mixed in by a scalar strength.

Shapes: B images, C channels, H × W positions. Every module here is timm's own with its parameter names, and
its ``forward`` computes timm's m(t)⊙t. What timm lacks is t ⊙ (base + gain·m(t)): `Mask.blend`, `Mask.boost`.
"""

from typing import TYPE_CHECKING, Any

import torch
from timm.layers.cbam import CbamModule
from timm.layers.coord_attn import CoordAttn
from timm.layers.eca import EcaModule
from timm.layers.squeeze_excite import SEModule
from torch import Tensor, nn

from nas.architecture import AttentionName, GateInit, hidden_channels
from nas.fusion import passes
from nas.fusion.norms import GroupNorm


class OpenSigmoid(nn.Module):
    """2·sigmoid: exactly 1 at 0, where its slope is greatest."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.sigmoid(x)


class Mask(nn.Module):
    """An attention module that multiplies its input by a mask.

    Gates are called as modules, so that forward hooks on ``gate`` see the values of the mask.
    """

    if TYPE_CHECKING:  # timm's modules are untyped

        def __getattr__(self, name: str) -> Any: ...

    def blend(self, t: Tensor, strength: Tensor | None) -> Tensor:
        """t ⊙ (1 − λ + λ·m(t)) for t: (B, C, H, W) and a 0-dim λ; None is λ = 1.

        The same function as t + λ·(m(t)⊙t − t). A 0-dim λ takes the dtype of the mask, under autocast too.
        """
        if strength is None:
            textbook: Tensor = self.forward(t)
            return textbook
        return self.scaled(t, 1 - strength, strength)

    def boost(self, t: Tensor, strength: Tensor) -> Tensor:
        """t ⊙ (1 + γ·m(t)) for t: (B, C, H, W) and a 0-dim γ."""
        return self.scaled(t, torch.ones_like(strength).detach(), strength)

    def add_boosted(self, x: Tensor, t: Tensor, strength: Tensor) -> Tensor:
        """x + t ⊙ (1 + γ·m(t)), written into x; both (B, C, H, W)."""
        x += self.boost(t, strength)
        return x

    def scaled(self, t: Tensor, base: Tensor, gain: Tensor) -> Tensor:
        """t ⊙ (base + gain·m(t)); ``base`` and ``gain`` are 0-dim."""
        return t * self.factor(t, base, gain)

    def factor(self, t: Tensor, base: Tensor, gain: Tensor) -> Tensor:
        """base + gain·m(t), broadcastable to t: (B, C, H, W); ``base`` and ``gain`` are 0-dim."""
        raise NotImplementedError

    def last_layers(self) -> list[nn.Module]:
        """The layers that feed the gates."""
        raise NotImplementedError

    def open_gates(self) -> None:
        """Zero what feeds the gates: with `OpenSigmoid` the mask is exactly 1 and the gradient alive."""
        for layer in self.last_layers():
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)


class ChannelMask(Mask):
    """A mask with one value for each image and channel: small, so that it is applied together with a sum."""

    def add_boosted(self, x: Tensor, t: Tensor, strength: Tensor) -> Tensor:
        factor = self.factor(t, torch.ones_like(strength).detach(), strength)
        return x.addcmul_(t, factor.to(x.dtype))


class SEMask(ChannelMask, SEModule):  # type: ignore[misc]  # timm is untyped
    """Squeeze-and-Excitation (Hu et al. 2018, https://arxiv.org/abs/1709.01507)."""

    def factor(self, t: Tensor, base: Tensor, gain: Tensor) -> Tensor:
        hidden = self.act(self.bn(self.fc1(passes.mean(t, [2, 3], self.training))))
        gate: Tensor = self.gate(self.fc2(hidden))  # (B, C, 1, 1)
        return base + gain * gate

    def last_layers(self) -> list[nn.Module]:
        return [self.fc2]


class EcaMask(ChannelMask, EcaModule):  # type: ignore[misc]  # timm is untyped
    """Efficient Channel Attention (Wang et al. 2020, https://arxiv.org/abs/1910.03151)."""

    def factor(self, t: Tensor, base: Tensor, gain: Tensor) -> Tensor:
        gate: Tensor = self.gate(self.conv(passes.mean(t, [2, 3], self.training).flatten(1).unsqueeze(1)))  # (B, 1, C)
        return base + gain * gate.transpose(1, 2).unsqueeze(3)

    def last_layers(self) -> list[nn.Module]:
        return [self.conv]


class CbamMask(Mask, CbamModule):  # type: ignore[misc]  # timm is untyped
    """Convolutional Block Attention Module (Woo et al. 2018, https://arxiv.org/abs/1807.06521)."""

    def gates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The channel mask (B, C, 1, 1) and the spatial mask (B, 1, H, W), computed from the refined tensor."""
        mlp = self.channel
        mean, peak = passes.pool(t, self.training)
        # fc2 is linear without a bias: one call does for both descriptors.
        channel = mlp.gate(mlp.fc2(mlp.act(mlp.fc1(mean)) + mlp.act(mlp.fc1(peak)))).to(t.dtype)
        spatial = self.spatial.gate(self.spatial.conv(passes.summary(t, channel, self.training)))
        return channel, spatial.to(t.dtype)

    def forward(self, t: Tensor) -> Tensor:
        channel, spatial = self.gates(t)
        return passes.scale(t, channel, spatial, t.new_zeros(()), self.training)

    def scaled(self, t: Tensor, base: Tensor, gain: Tensor) -> Tensor:
        channel, spatial = self.gates(t)
        return passes.scale(t, gain * channel, spatial, base, self.training)

    def last_layers(self) -> list[nn.Module]:
        return [self.channel.fc2, self.spatial.conv.bn]


class CoordMask(Mask, CoordAttn):  # type: ignore[misc]  # timm is untyped
    """Coordinate Attention (Hou et al. 2021, https://arxiv.org/abs/2103.02907)."""

    def scaled(self, t: Tensor, base: Tensor, gain: Tensor) -> Tensor:
        rows = passes.mean(t, [3], self.training)
        columns = passes.mean(t, [2], self.training).transpose(2, 3)
        hidden = self.act(self.bn1(self.conv1(torch.cat([rows, columns], 2))))  # (B, hidden, H + W, 1)
        rows, columns = torch.split(hidden, [t.shape[2], t.shape[3]], 2)
        along_h = self.gate(self.conv_h(rows)).to(t.dtype)  # (B, C, H, 1)
        along_w = self.gate(self.conv_w(columns.transpose(2, 3))).to(t.dtype)  # (B, C, 1, W)
        return passes.scale(t, gain * along_h, along_w, base, self.training)

    def last_layers(self) -> list[nn.Module]:
        return [self.conv_h, self.conv_w]


def create_mask(
    attention: AttentionName,
    channels: int,
    *,
    reduction: int,
    gate_init: GateInit = "textbook",
    norm_layer: type[nn.Module] = nn.BatchNorm2d,
    **factory: Any,
) -> Mask:
    """A mask over ``channels``; ``norm_layer`` is for cbam and coord, ``factory`` holds device and dtype."""
    gate = OpenSigmoid if gate_init == "open" else "sigmoid"
    common: dict[str, Any] = {"gate_layer": gate, **factory}
    mask: Mask
    if attention == "eca":
        mask = EcaMask(channels, **common)
    elif attention == "se":
        mask = SEMask(channels, rd_channels=hidden_channels(channels, reduction), **common)
    elif attention == "cbam":
        mask = CbamMask(channels, rd_channels=hidden_channels(channels, reduction), **common)
        if norm_layer is GroupNorm:  # timm fixes batch norm here
            mask.spatial.conv.bn = GroupNorm(1, **factory)
    else:
        mask = CoordMask(channels, rd_channels=hidden_channels(channels, reduction), norm_layer=norm_layer, **common)
    if gate_init == "open":
        mask.open_gates()
    return mask
