"""The full-size steps of CBAM, with backward passes written by hand.

Each function computes what its plain formula says; autograd would get the gradient from that formula as well, but
with a full-size temporary for every product in it. In training these keep nothing full-size but t itself, and their
gradients are matrix products. TorchScript and evaluation use the formula.

Shapes: t (B, C, H, W) in any memory format; P = H·W positions.
"""

from typing import Any

import torch
from torch import Tensor
from torch._jit_internal import is_scripting  # what torch.jit calls is_scripting, untyped there
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _Pool(Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor) -> tuple[Tensor, Tensor]:
        peak = t.amax((2, 3), keepdim=True)
        ctx.save_for_backward(t, peak)
        return t.mean((2, 3), keepdim=True), peak

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mean: Tensor, grad_peak: Tensor) -> Tensor:
        t, peak = ctx.saved_tensors
        ties = _equal(t, peak)
        share = grad_peak / ties.sum((2, 3), keepdim=True)
        return ties.mul_(share).add_(grad_mean / (t.shape[2] * t.shape[3]))


class _Summary(Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, channel: Tensor) -> Tensor:
        refined = t * channel
        peak = refined.amax(1, keepdim=True)
        ctx.save_for_backward(t, channel, peak)
        out = torch.cat([refined.mean(1, keepdim=True), peak], 1)
        if t.is_contiguous(memory_format=torch.channels_last):  # else the 7×7 convolution would copy back and forth
            out = out.contiguous(memory_format=torch.channels_last)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        t, channel, peak = ctx.saved_tensors
        ties = _equal(t * channel, peak)
        share = grad[:, 1:] / ties.sum(1, keepdim=True)
        grad_refined = ties.mul_(share).add_(grad[:, :1] / t.shape[1])
        grad_channel = (grad_refined * t).sum((2, 3), keepdim=True)
        return grad_refined.mul_(channel), grad_channel


class _Scale(Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, channel: Tensor, spatial: Tensor, base: Tensor) -> Tensor:
        ctx.save_for_backward(t, channel, spatial, base)
        return _factor(t, channel, spatial, base).mul_(t)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        t, channel, spatial, base = ctx.saved_tensors
        product = (grad * t).flatten(2)
        # A row vector on the left is many times faster than a column on the right, in either memory format.
        grad_channel = torch.bmm(spatial.flatten(1).unsqueeze(1), product.transpose(1, 2))
        grad_spatial = torch.bmm(channel.flatten(1).unsqueeze(1), product)
        grad_base = product.sum(dtype=base.dtype) if ctx.needs_input_grad[3] else None
        del product
        grad_t = _factor(t, channel, spatial, base).mul_(grad)
        return grad_t, grad_channel.view_as(channel), grad_spatial.view_as(spatial), grad_base


def _equal(t: Tensor, peak: Tensor) -> Tensor:
    """1 where t is the maximum, else 0, in the dtype of t: several times faster than a tensor of bool."""
    return torch.eq(t, peak, out=torch.empty_like(t))


def _factor(t: Tensor, channel: Tensor, spatial: Tensor, base: Tensor) -> Tensor:
    """base + channel·spatial in the memory format of t."""
    return torch.mul(channel, spatial, out=torch.empty_like(t)).add_(base)


@torch.fx.wrap  # one node, here and below: feature extraction warns where graphs differ in training and evaluation
def pool(t: Tensor, training: bool) -> tuple[Tensor, Tensor]:
    """Mean and maximum of t over positions, each (B, C, 1, 1)."""
    if training and not is_scripting():
        mean, peak = _Pool.apply(t)
        return mean, peak
    return t.mean((2, 3), keepdim=True), t.amax((2, 3), keepdim=True)


@torch.fx.wrap
def summary(t: Tensor, channel: Tensor, training: bool) -> Tensor:
    """Mean and maximum over channels of t ⊙ channel, (B, 2, H, W); channel: (B, C, 1, 1)."""
    if training and not is_scripting():
        out: Tensor = _Summary.apply(t, channel)
        return out
    refined = t * channel
    return torch.cat([refined.mean(1, keepdim=True), refined.amax(1, keepdim=True)], 1)


@torch.fx.wrap
def scale(t: Tensor, channel: Tensor, spatial: Tensor, base: Tensor, training: bool) -> Tensor:
    """t ⊙ (base + channel ⊙ spatial); channel: (B, C, 1, 1), spatial: (B, 1, H, W), base 0-dim."""
    if training and not is_scripting():
        out: Tensor = _Scale.apply(t, channel, spatial, base)
        return out
    return t * torch.addcmul(base.to(t.dtype), channel, spatial)
