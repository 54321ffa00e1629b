"""The full-size steps of the masks, with backward passes written by hand.

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


class _Mean(Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, dims: list[int]) -> Tensor:
        ctx.shape = t.shape
        return t.mean(dims, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return (grad / (ctx.shape.numel() // grad.numel())).expand(ctx.shape), None  # divided while it is small


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
    def forward(ctx: Any, t: Tensor, one: Tensor, other: Tensor, base: Tensor) -> Tensor:
        ctx.save_for_backward(t, one, other, base)
        return _factor(t, one, other, base).mul_(t)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        t, one, other, base = ctx.saved_tensors
        product = grad * t
        grad_one, grad_other = _factor_gradients(product, one, other)
        grad_base = product.sum(dtype=base.dtype) if ctx.needs_input_grad[3] else None
        del product
        return _factor(t, one, other, base).mul_(grad), grad_one, grad_other, grad_base


def _equal(t: Tensor, peak: Tensor) -> Tensor:
    """1 where t is the maximum, else 0, in the dtype of t: several times faster than a tensor of bool."""
    return torch.eq(t, peak, out=torch.empty_like(t))


def _factor(t: Tensor, one: Tensor, other: Tensor, base: Tensor) -> Tensor:
    """base + one·other in the memory format of t."""
    return torch.mul(one, other, out=torch.empty_like(t)).add_(base)


def _factor_gradients(product: Tensor, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the two masks, where ``product`` is that of one ⊙ other."""
    if other.shape[1] > 1:
        return (product * other).sum(3, keepdim=True), (product * one).sum(2, keepdim=True)
    # A row vector on the left is many times faster than a column on the right, in either memory format.
    product = product.flatten(2)
    grad_one = torch.bmm(other.flatten(1).unsqueeze(1), product.transpose(1, 2))
    grad_other = torch.bmm(one.flatten(1).unsqueeze(1), product)
    return grad_one.view_as(one), grad_other.view_as(other)


@torch.fx.wrap  # one node, here and below: feature extraction warns where graphs differ in training and evaluation
def mean(t: Tensor, dims: list[int], training: bool) -> Tensor:
    """Mean of t over dimensions, which are kept with size 1."""
    if training and not is_scripting():
        out: Tensor = _Mean.apply(t, dims)
        return out
    return t.mean(dims, keepdim=True)


@torch.fx.wrap
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
def scale(t: Tensor, one: Tensor, other: Tensor, base: Tensor, training: bool) -> Tensor:
    """t ⊙ (base + one ⊙ other): masks (B, C, 1, 1) and (B, 1, H, W), or (B, C, H, 1) and (B, C, 1, W); base 0-dim."""
    if training and not is_scripting():
        out: Tensor = _Scale.apply(t, one, other, base)
        return out
    return t * torch.addcmul(base.to(t.dtype), one, other)
