"""timm's residual blocks with attention fused in, by one of the patterns p1 to p4.

x: block input, (B, C_in, H_in, W_in). f = F(x): residual branch, s = skip(x): shortcut after the projection,
both (B, C, H, W). m: a mask. Every pattern multiplies a tensor t by base + gain·m(t):

====  ================================  ==============  ===========
p1    σ(s + blend(f, λ))                module ``se``   base 1 − λ, gain λ
p2    σ(blend(s + f, λ))                ``post``        the same
p3    σ(s + F(blend(x, λ)))             ``pre``         the same
p4    σ(boost(s, γ_s) + boost(f, γ_r))  ``skip_attention``, ``residual_attention``: base 1, gain γ
====  ================================  ==============  ===========
"""

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torch.nn import functional as F

from nas.architecture import GAMMA_MARGIN, AttentionName, StageFusion
from nas.fusion.masks import Mask, create_mask


def inverse_softplus(value: float) -> float:
    """The d with softplus(d) = ``value`` > 0."""
    return value + math.log(-math.expm1(-value))


class FusedBlock(nn.Module):
    """What the fused blocks share; mixed in before timm's block, whose ``forward`` it replaces.

    λ (p1-p3) and γ (p4) are constants, or scalar parameters where ``fusion.learnable``:

    - λ is the parameter ``lam`` clamped to [0, 1] with a straight-through gradient. The clamp's own gradient
      is zero outside the interval: a λ which one step pushed past an end would stay there for ever.
    - γ_s is the parameter ``gamma_skip``; γ_r = γ_s + GAMMA_MARGIN + softplus(``gamma_gap``) is always above.
    """

    fusion_names: ClassVar[tuple[str, ...]] = (
        *("se", "post", "pre", "residual_attention", "skip_attention"),
        *("lam", "gamma_skip", "gamma_gap"),
    )
    """Modules and parameters that timm's block does not have; None where the pattern does not use them."""

    if TYPE_CHECKING:  # timm's modules are untyped

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, inplanes: int, planes: int, *args: Any, fusion: StageFusion, **kwargs: Any) -> None:
        super().__init__(inplanes, planes, *args, **kwargs)
        self.fusion = fusion
        channels = planes * self.expansion
        factory = {"device": kwargs.get("device"), "dtype": kwargs.get("dtype")}

        def mask(attention: AttentionName | None, width: int) -> Mask:
            assert attention is not None, "StageFusion demands it"  # noqa: S101  # narrows the type
            return create_mask(
                attention,
                width,
                reduction=fusion.reduction,
                gate_init=fusion.gate_init,
                norm_layer=kwargs.get("norm_layer", nn.BatchNorm2d),
                **factory,
            )

        pattern = fusion.pattern
        # timm's name for attention at the end of the branch: p1 with λ = 1 takes the weights of its SE-ResNets.
        self.se = mask(fusion.attention, channels) if pattern == "p1" else None
        self.post = mask(fusion.attention, channels) if pattern == "p2" else None
        self.pre = mask(fusion.attention, inplanes) if pattern == "p3" else None
        self.residual_attention = mask(fusion.attention, channels) if pattern == "p4" else None
        self.skip_attention = mask(fusion.skip_attention, channels) if fusion.acts_on_skip else None

        self.margin = GAMMA_MARGIN
        self.fixed_lambda = fusion.lambda_init
        self.fixed_gamma_skip = fusion.gamma_skip_init
        self.fixed_gamma_residual = fusion.gamma_residual_init
        learned = () if not fusion.learnable else ("gamma_skip", "gamma_gap") if pattern == "p4" else ("lam",)
        for name in ("lam", "gamma_skip", "gamma_gap"):
            self.register_parameter(name, nn.Parameter(torch.empty((), **factory)) if name in learned else None)
        self.init_fusion()

    def init_fusion(self) -> None:
        """Put λ, γ and open gates at their start; the rest of the attention is initialised as timm does."""
        fusion = self.fusion
        if self.lam is not None:
            nn.init.constant_(self.lam, fusion.lambda_init)
        if self.gamma_skip is not None and self.gamma_gap is not None:
            nn.init.constant_(self.gamma_skip, fusion.gamma_skip_init)
            gap = fusion.gamma_residual_init - fusion.gamma_skip_init - GAMMA_MARGIN
            nn.init.constant_(self.gamma_gap, inverse_softplus(gap))
        if fusion.gate_init == "open":
            for module in self.children():
                if isinstance(module, Mask):
                    module.open_gates()

    def blend_strength(self, like: Tensor) -> Tensor | None:
        """λ as a 0-dim tensor in [0, 1]; None where it is the constant 1."""
        if self.lam is not None:
            lam: Tensor = self.lam
            return lam.clamp(0.0, 1.0).detach() + (lam - lam.detach())
        if self.fixed_lambda == 1.0:
            return None
        return like.new_full((), self.fixed_lambda)

    def skip_strength(self, like: Tensor) -> Tensor:
        """γ_s as a 0-dim tensor."""
        if self.gamma_skip is not None:
            gamma: Tensor = self.gamma_skip
            return gamma
        return like.new_full((), self.fixed_gamma_skip)

    def residual_strength(self, like: Tensor) -> Tensor:
        """γ_r as a 0-dim tensor, above γ_s."""
        if self.gamma_skip is not None and self.gamma_gap is not None:
            gamma: Tensor = self.gamma_skip + (self.margin + F.softplus(self.gamma_gap))
            return gamma
        return like.new_full((), self.fixed_gamma_residual)

    def branch(self, x: Tensor) -> Tensor:
        """F: (B, C_in, H_in, W_in) -> (B, C, H, W), without the final activation."""
        raise NotImplementedError

    def activate(self, x: Tensor) -> Tensor:
        """σ, in place."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H_in, W_in) -> (B, C, H, W)."""
        shortcut = x
        if self.pre is not None:
            x = self.pre.blend(x, self.blend_strength(x))
        x = self.branch(x)
        if self.se is not None:
            x = self.se.blend(x, self.blend_strength(x))
        if self.residual_attention is not None:
            x = self.residual_attention.boost(x, self.residual_strength(x))
        if self.drop_path is not None:
            x = self.drop_path(x)

        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        if self.skip_attention is not None:
            x = self.skip_attention.add_boosted(x, shortcut, self.skip_strength(shortcut))
        else:
            x += shortcut
        if self.post is not None:
            x = self.post.blend(x, self.blend_strength(x))
        return self.activate(x)


class FusedBasicBlock(FusedBlock, BasicBlock):  # type: ignore[misc]  # timm is untyped
    """3×3, 3×3 convolutions (He et al. 2016, https://arxiv.org/abs/1512.03385), and attention."""

    def branch(self, x: Tensor) -> Tensor:
        x = self.act1(self.drop_block(self.bn1(self.conv1(x))))
        out: Tensor = self.bn2(self.conv2(self.aa(x)))
        return out

    def activate(self, x: Tensor) -> Tensor:
        out: Tensor = self.act2(x)
        return out


class FusedBottleneck(FusedBlock, Bottleneck):  # type: ignore[misc]  # timm is untyped
    """1×1, 3×3, 1×1 convolutions (He et al. 2016, https://arxiv.org/abs/1512.03385), and attention."""

    def branch(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.drop_block(self.bn2(self.conv2(x))))
        out: Tensor = self.bn3(self.conv3(self.aa(x)))
        return out

    def activate(self, x: Tensor) -> Tensor:
        out: Tensor = self.act3(x)
        return out
