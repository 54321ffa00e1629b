"""What a network costs: counted (parameters, multiply-accumulates) and timed (latency beside the plain network)."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import quantiles
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from nas.architecture import Architecture
from nas.errors import UserError
from nas.fusion.models import build_model
from nas.measurement import Cost

WARM_UP = 3
REPEATS = 20
COUNTED = (nn.Conv1d, nn.Conv2d, nn.Linear)
"""What multiplies by weights in the networks of this package."""


def count_params(model: nn.Module) -> int:
    """Number of parameters, buffers not counted."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, input_size: tuple[int, int, int]) -> int:
    """Multiply-accumulate operations of convolutions and linear layers for one image of (C, H, W).

    Runs the model in evaluation mode: it, its statistics and generators stay as they were.
    """
    macs = 0

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        macs += output.numel() * cast("Tensor", layer.weight)[0].numel()  # the weights behind each output value

    modes = {module: module.training for module in model.modules()}
    hooks = [layer.register_forward_hook(count) for layer in modes if isinstance(layer, COUNTED)]
    weight = next(model.parameters())
    with torch.no_grad():
        model.eval()(torch.zeros(1, *input_size, dtype=weight.dtype, device=weight.device))
    for hook in hooks:
        hook.remove()
    for module, training in modes.items():
        module.training = training
    return macs


def count_training_bytes(
    model: nn.Module, input_size: tuple[int, int, int], batch_size: int, half: torch.dtype | None = None
) -> int:
    """Bytes that one training step of SGD with momentum holds when the forward pass of a batch has ended.

    Weights, gradients, momentum, buffers, and every tensor that autograd keeps for the backward pass, each storage
    once; of mixed precision the copies of the weights too. Runs a copy without memory.

    Args:
        half: what autocast computes in; None: nothing is cast.
    """
    if half is None:
        return _count_bytes(_without_memory(model, "meta"), input_size, batch_size, "meta")
    # autocast passes over the meta device; a fake tensor says that it is on the CPU
    with FakeTensorMode(), torch.autocast("cpu", half, cache_enabled=False):
        return _count_bytes(_without_memory(model, "cpu"), input_size, batch_size, "cpu")


def _count_bytes(twin: nn.Module, input_size: tuple[int, int, int], batch_size: int, device: str) -> int:
    twin.train()
    own = [*twin.parameters(), *twin.buffers()]
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    known = {tensor.untyped_storage()._cdata for tensor in own}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = tensor  # holds the storage, so that its number is not given away
        return tensor

    dtype = next(twin.parameters()).dtype
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = twin(torch.empty(batch_size, *input_size, dtype=dtype, device=device))
    weights = sum(_num_bytes(parameter) for parameter in twin.parameters())
    buffers = sum(_num_bytes(buffer) for buffer in twin.buffers())
    del output
    return 3 * weights + buffers + sum(_num_bytes(tensor) for tensor in kept.values())


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _without_memory(model: nn.Module, device: str) -> nn.Module:
    """A deep copy whose parameters and buffers hold nothing: on the meta device, or fake ones."""
    empty: dict[int, Tensor] = {id(b): torch.empty(b.shape, dtype=b.dtype, device=device) for b in model.buffers()}
    for parameter in model.parameters():
        content = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        empty[id(parameter)] = nn.Parameter(content, requires_grad=False)
    return copy.deepcopy(model, empty)


@dataclass(frozen=True, kw_only=True)
class CostComparison:
    """An architecture beside the plain network of its backbone."""

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
        return {
            name: getattr(self.fused, name) / getattr(self.plain, name) for name in ("num_params", "macs", "latency_ms")
        }

    def on_clock(self, clock_ms: float) -> "CostComparison":
        """The same with latencies, which must be there, on a scale on which the plain network takes ``clock_ms``.

        Timings of another hour or machine are comparable on it: both networks ran in turns.
        """
        factor = clock_ms / cast("float", self.plain.latency_ms)
        return replace(self, fused=_slower(self.fused, factor), plain=_slower(self.plain, factor))


def compare_cost(
    architecture: Architecture,
    *,
    image_size: int | None = None,
    batch: int = 1,
    device: str = "cpu",
    threads: int = 1,
    repeats: int = REPEATS,
    train_batch: int | None = None,
    train_half: torch.dtype | None = None,
) -> CostComparison:
    """Count and time an architecture and its plain network in turns, so that a busy machine disturbs both.

    Args:
        image_size: side of a square image in pixels; None: 224, or 32 for a small stem.
        batch: images in one forward pass.
        threads: of torch on the CPU while timing; the caller's number is put back.
        repeats: timed forward passes of each; 0: nothing is timed.
        train_batch: images in one training step, whose memory is counted; None: it is not.
        train_half: what its forward pass is cast to; None: nothing.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
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
        costs = {name: _counted(model, size, train_batch, train_half) for name, model in models.items()}
        if repeats:
            times = time_in_turns({name: m.to(device).eval() for name, m in models.items()}, x, repeats)
            costs = {name: _timed(cost, times[name]) for name, cost in costs.items()}
    finally:
        torch.set_num_threads(before)
    return CostComparison(**costs, input_size=size, batch=batch, device=device, threads=threads)


def _counted(
    model: nn.Module, size: tuple[int, int, int], train_batch: int | None, train_half: torch.dtype | None
) -> Cost:
    num_bytes = None if train_batch is None else count_training_bytes(model, size, train_batch, train_half)
    return Cost(
        num_params=count_params(model),
        macs=count_macs(model, size),
        peak_memory_mb=None if num_bytes is None else num_bytes / 1e6,
    )


def _timed(cost: Cost, times: list[float]) -> Cost:
    low, middle, high = quantiles(times, n=4)
    return replace(cost, latency_ms=middle, latency_low_ms=low, latency_high_ms=high)


def _slower(cost: Cost, factor: float) -> Cost:
    """A cost with each latency ``factor`` times as long."""
    names = ("latency_ms", "latency_low_ms", "latency_high_ms")
    return replace(cost, **{name: factor * getattr(cost, name) for name in names})


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
