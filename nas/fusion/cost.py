"""What a network costs: counted (parameters, multiply-accumulates) and timed (latency beside the plain network)."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Architecture
from nas.errors import UserError
from nas.fusion.models import build_model

WARM_UP = 3
REPEATS = 20


def count_params(model: nn.Module) -> int:
    """Number of parameters, buffers not counted."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, input_size: tuple[int, int, int]) -> int:
    """Multiply-accumulate operations of convolutions and matrix products for one image of (C, H, W).

    Runs a copy without memory in evaluation mode: the model, its statistics and generators stay untouched.
    """
    twin = _without_memory(model).eval()
    dtype = next(model.parameters()).dtype
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(torch.empty(1, *input_size, dtype=dtype, device="meta"))
    return int(counter.get_total_flops()) // 2


def _without_memory(model: nn.Module) -> nn.Module:
    """A deep copy whose parameters and buffers are on the meta device."""
    meta: dict[int, Tensor] = {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    for parameter in model.parameters():
        meta[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    return copy.deepcopy(model, meta)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one network costs."""

    num_params: int
    macs: int
    """Of one image."""
    latency_ms: float
    """Median time of a forward pass of one batch, in evaluation mode and warm."""
    latency_low_ms: float
    """Lower quartile."""
    latency_high_ms: float
    """Upper quartile."""


@dataclass(frozen=True, kw_only=True)
class CostComparison:
    """An architecture beside the plain network of its backbone, timed in turns."""

    fused: Cost
    plain: Cost
    input_size: tuple[int, int, int]
    """Channels, height, width."""
    batch: int
    device: str
    threads: int

    @property
    def ratios(self) -> dict[str, float]:
        """Fused to plain, by quantity."""
        return {name: getattr(self.fused, name) / getattr(self.plain, name) for name in RATIOS}


RATIOS = ("num_params", "macs", "latency_ms")


def compare_cost(
    architecture: Architecture,
    *,
    image_size: int | None = None,
    batch: int = 1,
    device: str = "cpu",
    threads: int = 1,
    repeats: int = REPEATS,
) -> CostComparison:
    """Count and time an architecture and its plain network in turns, so that a busy machine disturbs both.

    Args:
        image_size: side of a square image in pixels; None: 224, or 32 for a small stem.
        batch: images in one forward pass.
        threads: of torch on the CPU while timing; the caller's number is put back.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: 'cuda' asked for, but this machine has none")
    side = image_size or (32 if architecture.backbone.stem == "small" else 224)
    size = (architecture.in_chans, side, side)
    plain = Architecture.plain(
        architecture.backbone,
        num_classes=architecture.num_classes,
        in_chans=architecture.in_chans,
        norm=architecture.norm,
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            models: dict[str, nn.Module] = {"fused": build_model(architecture), "plain": build_model(plain)}
            x = torch.randn(batch, *size, device=device)
        times = time_in_turns({name: m.to(device).eval() for name, m in models.items()}, x, repeats)
    finally:
        torch.set_num_threads(before)
    costs = {name: _cost(models[name], size, times[name]) for name in models}
    return CostComparison(**costs, input_size=size, batch=batch, device=device, threads=threads)


def _cost(model: nn.Module, size: tuple[int, int, int], times: list[float]) -> Cost:
    low, _, high = quantiles(times, n=4)
    return Cost(
        num_params=count_params(model),
        macs=count_macs(model, size),
        latency_ms=median(times),
        latency_low_ms=low,
        latency_high_ms=high,
    )


def time_in_turns(models: Mapping[str, nn.Module], x: Tensor, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of ``repeats`` forward passes of each model, after a warm-up, one after the other in turns."""
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for turn in range(-WARM_UP, repeats):
            for name, model in models.items():
                elapsed = _forward_ms(model, x)
                if turn >= 0:
                    times[name].append(elapsed)
    return times


def _forward_ms(model: Any, x: Tensor) -> float:
    _wait(x.device)
    started = time.perf_counter()
    model(x)
    _wait(x.device)
    return (time.perf_counter() - started) * 1e3


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
