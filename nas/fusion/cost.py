"""What a network costs, counted rather than timed."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


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
