"""Reads the scales of a network's blocks and the state of its masks off single training steps.

Hooks stand only during the steps that are watched. What they see is reduced at once to scalars that stay on
the device; activations are never kept, and nothing waits for a GPU before `drain`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nas.fusion.blocks import FusedBlock
from nas.fusion.masks import Mask, OpenSigmoid
from nas.training.signals.reading import BlockReading

EARLY_STEPS = 50
"""Steps at the start of a run, in which most of what breaks begins to."""


def is_watched(step: int) -> bool:
    """Every fifth step at the start, every tenth after that."""
    return step % (5 if step < EARLY_STEPS else 10) == 0


class Inspector:
    """Watches the residual blocks of a timm ResNet."""

    def __init__(self, model: nn.Module) -> None:
        stages = [(stage, getattr(model, f"layer{stage}", None)) for stage in range(1, 5)]
        self.blocks = [
            _BlockWatch(stage, number, block)
            for stage, blocks in stages
            if isinstance(blocks, nn.Sequential)
            for number, block in enumerate(blocks)
            if isinstance(block, BasicBlock | Bottleneck)
        ]
        self._handles: list[RemovableHandle] = []
        self._seen: list[tuple[int, Tensor]] = []

    def watch(self) -> None:
        """Attach the hooks, before a forward pass."""
        self._handles = [handle for block in self.blocks for handle in block.attach()]

    def keep(self, step: int) -> None:
        """Detach the hooks after a watched step and keep its scalars on the device."""
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._seen.append((step, torch.stack([block.scalars() for block in self.blocks])))

    def drain(self) -> dict[int, list[tuple[float, ...]]]:
        """Scalars of each block by watched step since the last call: one transfer from the device."""
        if not self._seen:
            return {}
        steps, values = zip(*self._seen, strict=True)
        self._seen.clear()
        return dict(zip(steps, torch.stack(values).tolist(), strict=True))

    def readings(self, rows: Sequence[Sequence[float]], *, epoch: int, step: int) -> list[BlockReading]:
        """The scalars of one step as values."""
        largest, found = 0.0, []
        for block, row in zip(self.blocks, rows, strict=True):
            scalars = _Scalars(*row)
            largest = max(largest, scalars.input)
            found.append(
                BlockReading(
                    epoch=epoch,
                    step=step,
                    stage=block.stage,
                    block=block.number,
                    shortcut_scale=scalars.shortcut,
                    branch_scale=scalars.branch,
                    output_scale=scalars.output,
                    trunk_ratio=scalars.output / largest if largest > 0 else 0.0,
                    weight_norm=scalars.weights,
                    skip_factor=scalars.skip_factor if block.touches_skip else None,
                    gate_slope=scalars.gate_slope if block.masks else None,
                )
            )
            largest = max(largest, scalars.output)
        return found


class _Scalars(NamedTuple):
    input: float
    shortcut: float
    branch: float
    output: float
    weights: float
    skip_factor: float
    gate_slope: float


class _BlockWatch:
    """The hooks of one block."""

    def __init__(self, stage: int, number: int, block: nn.Module) -> None:
        self.stage, self.number, self.block = stage, number, block
        self.masks: dict[str, Mask] = {n: m for n, m in block.named_children() if isinstance(m, Mask)}
        self.touches_skip = not self.masks.keys().isdisjoint(("post", "skip_attention"))
        self.gates = [
            (name, module)
            for name, mask in self.masks.items()
            for path, module in mask.named_modules()
            if path.rpartition(".")[2] == "gate"
        ]
        self.weights = [p for p in block.parameters() if p.ndim > 1]
        self._scales: dict[str, Tensor] = {}
        self._factors: dict[str, Tensor] = {}
        self._slopes: dict[str, Tensor] = {}

    def attach(self) -> list[RemovableHandle]:
        """Hook the block, the end of its branch, its projection and its gates."""
        block: Any = self.block
        self._scales.clear()
        self._factors.clear()
        self._slopes.clear()
        branch_end = block.bn3 if isinstance(block, Bottleneck) else block.bn2
        handles = [block.register_forward_hook(self._end), branch_end.register_forward_hook(self._scale_of("branch"))]
        if block.downsample is not None:
            handles.append(block.downsample.register_forward_hook(self._scale_of("shortcut")))
        handles += [gate.register_forward_hook(self._gate_of(name)) for name, gate in self.gates]
        return handles

    def _scale_of(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._scales[name] = _rms(output)

        return hook

    def _gate_of(self, name: str) -> Any:
        """CBAM has two gates and CoordAtt calls its one twice: the factors of a mask multiply."""

        def hook(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            gate = output.detach().float()
            mean = gate.mean()
            sigmoid = gate / 2 if isinstance(module, OpenSigmoid) else gate
            slope = (4 * sigmoid * (1 - sigmoid)).mean()
            self._factors[name] = self._factors[name] * mean if name in self._factors else mean
            self._slopes[name] = torch.maximum(self._slopes[name], slope) if name in self._slopes else slope

        return hook

    def _end(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._scales["input"] = _rms(inputs[0])
        self._scales["output"] = _rms(output)
        with torch.no_grad():
            self._scales["weights"] = nn.utils.get_total_norm(self.weights)

    @torch.no_grad()
    def scalars(self) -> Tensor:
        """`_Scalars` as one tensor (7,) on the device."""
        scales = self._scales
        one = torch.ones_like(scales["input"])
        branch = scales["branch"]
        for name in ("se", "residual_attention"):
            if name in self._factors:
                branch = branch * self._factor(name)
        skip = next((self._factor(name) for name in ("post", "skip_attention") if name in self._factors), one)
        slopes = list(self._slopes.values())
        slope = torch.stack(slopes).amin() if slopes else one
        shortcut = scales.get("shortcut", scales["input"])
        return torch.stack([scales["input"], shortcut, branch, scales["output"], scales["weights"], skip.abs(), slope])

    def _factor(self, name: str) -> Tensor:
        """Mean of base + gain·m of one mask: 1 − λ + λ·m, or 1 + γ·m in p4."""
        block, mean = self.block, self._factors[name]
        assert isinstance(block, FusedBlock), "only fused blocks have masks"  # noqa: S101  # narrows the type
        if name == "skip_attention":
            return 1 + block.skip_strength(mean) * mean
        if name == "residual_attention":
            return 1 + block.residual_strength(mean) * mean
        strength = block.blend_strength(mean)
        return mean if strength is None else 1 - strength + strength * mean


def _rms(t: Tensor) -> Tensor:
    scale: Tensor = torch.linalg.vector_norm(t.detach(), dtype=torch.float32) / t.numel() ** 0.5
    return scale
