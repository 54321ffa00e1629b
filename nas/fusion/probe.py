"""One fused block of a network, with what its skip and its residual branch give in our hands.

Nothing is read from the code of a block. Hooks put chosen tensors s and f in the place of what the skip and the
residual branch give and catch what enters the final activation: out(s, f), the pattern as a function. Its reaction
to changes of s and f tells what the attention sees, what it moves, and how.

s, f, out: (B, C, H, W); x: input of the block, (B, C_in, H, W). Probes run in float64 on a copy of the network.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from nas.fusion.masks import Mask


class Probe:
    """One fused block of a network, with s and f in our hands."""

    def __init__(self, block: Any) -> None:
        self.block = block
        self.pattern: str = block.fusion.pattern
        last_norm = "bn3" if isinstance(block, Bottleneck) else "bn2"
        self.norm = getattr(block, last_norm)
        self.act = block.act3 if isinstance(block, Bottleneck) else block.act2
        self.stride = block.conv2.stride[0] if isinstance(block, Bottleneck) else block.conv1.stride[0]
        self.channels: int = self.norm.weight.shape[0]
        self.inplanes: int = block.conv1.in_channels
        self.changes_shape = self.stride != 1 or self.inplanes != self.channels

    def tensor(self, channels: int, side: int, seed: int) -> Tensor:
        """Random values that differ between channels and between positions, so that every descriptor does."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        return normal(2, channels, side, side) + normal(2, channels, 1, 1) + normal(2, 1, side, side)

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """x, s and f; where the skip is the identity, s is x."""
        x = self.tensor(self.inplanes, 4 * self.stride, seed=1)
        s = self.tensor(self.channels, 4, seed=2) if self.changes_shape else x
        return x, s, self.tensor(self.channels, 4, seed=3)

    def run(self, x: Tensor, s: Tensor | None = None, f: Tensor | None = None) -> dict[str, Tensor]:
        """What enters the final activation (``out``), the residual branch (``branch``) and the projection (``skip``).

        Without ``s`` or ``f`` the block computes its own.
        """
        seen: dict[str, Tensor] = {}

        def see(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            return lambda _module, args: seen.__setitem__(name, args[0].clone())

        def give(value: Tensor) -> Callable[..., Tensor]:
            return lambda *_: value.clone()

        with ExitStack() as hooks, torch.no_grad():
            hooks.enter_context(_removing(self.act.register_forward_pre_hook(see("out"))))
            hooks.enter_context(_removing(self.block.conv1.register_forward_pre_hook(see("branch"))))
            if self.block.downsample is not None:
                hooks.enter_context(_removing(self.block.downsample.register_forward_pre_hook(see("skip"))))
                if s is not None:
                    hooks.enter_context(_removing(self.block.downsample.register_forward_hook(give(s))))
            elif s is not None:
                x = s
            if f is not None:
                hooks.enter_context(_removing(self.norm.register_forward_hook(give(f))))
            self.block(x.clone())
        return seen

    def out(self, s: Tensor, f: Tensor) -> Tensor:
        """The pattern as a function of skip and residual."""
        return self.run(self.inputs()[0], s, f)["out"]


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def gates_fixed(block: nn.Module, value: float) -> Iterator[None]:
    """Freeze the attention of a block: every gate gives ``value``."""
    with ExitStack() as hooks:
        for name, module in block.named_modules():
            if name.rpartition(".")[2] == "gate":
                hooks.enter_context(
                    _removing(module.register_forward_hook(lambda _m, _a, out: torch.full_like(out, value)))
                )
        yield


def set_strength(block: Any, value: float) -> None:
    """Make λ, or both γ, the constant ``value``."""
    block.lam = block.gamma_skip = block.gamma_gap = None
    block.fixed_lambda = block.fixed_gamma_skip = block.fixed_gamma_residual = value


def stirred(block: Any) -> Any:
    """A copy at full strength whose masks have random weights, so that what attention does can be seen."""
    block = copy.deepcopy(block)
    set_strength(block, 1.0)
    generator = torch.Generator().manual_seed(0)
    for mask in (module for module in block.modules() if isinstance(module, Mask)):
        for parameter in mask.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data.copy_(noise / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else noise)
    return block


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))
