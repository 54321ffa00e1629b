"""Attention and residual branches written from the papers, in plain functions of the weights."""

import torch
import torch.nn.functional as F
from torch import nn


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Give every tensor parameter and statistic a fixed random value; λ and γ (0-dim) stay."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 0:
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            noise = 0.5 + noise.abs()
        elif tensor.ndim == 1 and name.endswith("weight"):
            noise = 1 + 0.3 * noise
        elif tensor.ndim > 1:
            noise /= max(tensor[0].numel(), 1) ** 0.5
        tensor.copy_(noise)


def _gate(x, is_open):
    return (2 if is_open else 1) / (1 + torch.exp(-x))


def _norm(x, weights, name):
    """Batch norm in evaluation mode, or group norm of up to 16 channels where there are no statistics."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if f"{name}.running_mean" not in weights:
        return F.group_norm(x, max(1, x.shape[1] // 16), weight, bias)
    mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    shape = (1, -1, 1, 1)
    return (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt() * weight.view(shape) + bias.view(shape)


def se(t, weights, is_open):
    squeezed = t.mean((2, 3))
    hidden = (squeezed @ weights["fc1.weight"][:, :, 0, 0].T + weights["fc1.bias"]).relu()
    return _gate(hidden @ weights["fc2.weight"][:, :, 0, 0].T + weights["fc2.bias"], is_open)[:, :, None, None]


def eca(t, weights, is_open):
    kernel = weights["conv.weight"][0, 0]
    radius = len(kernel) // 2
    padded = F.pad(t.mean((2, 3)), (radius, radius))
    mixed = sum(k * padded[:, i : i + t.shape[1]] for i, k in enumerate(kernel))
    return _gate(mixed, is_open)[:, :, None, None]


def cbam(t, weights, is_open):
    fc1, fc2 = (weights[f"channel.{n}.weight"][:, :, 0, 0].T for n in ("fc1", "fc2"))
    average, highest = t.mean((2, 3)), t.flatten(2).max(2).values
    channel = _gate((average @ fc1).relu() @ fc2 + (highest @ fc1).relu() @ fc2, is_open)[:, :, None, None]
    refined = channel * t
    summary = torch.stack([refined.mean(1), refined.max(1).values], 1)
    spatial = _norm(F.conv2d(summary, weights["spatial.conv.conv.weight"], padding=3), weights, "spatial.conv.bn")
    return channel * _gate(spatial, is_open)


def coord(t, weights, is_open):
    height = t.shape[2]
    strips = torch.cat([t.mean(3), t.mean(2)], 2)[..., None]  # (B, C, H + W, 1)
    hidden = F.hardswish(_norm(F.conv2d(strips, weights["conv1.weight"]), weights, "bn1"))
    along_h = _gate(F.conv2d(hidden[:, :, :height], weights["conv_h.weight"]), is_open)
    along_w = _gate(F.conv2d(hidden[:, :, height:], weights["conv_w.weight"]), is_open)
    return along_h * along_w.transpose(2, 3)


MASKS = {"se": se, "eca": eca, "cbam": cbam, "coord": coord}


def mask_of(module, t, attention, gate_init):
    """m(t), from the weights of ``module`` alone."""
    return MASKS[attention](t, module.state_dict(), gate_init == "open")


def block_output(block, x, fusion, strengths):
    """Output of a block in evaluation mode: its own convolutions and norms in the formula of its pattern."""

    def branch(t):
        for i, last in ((1, False), (2, block.expansion == 1), (3, True))[: 2 if block.expansion == 1 else 3]:
            t = getattr(block, f"bn{i}")(getattr(block, f"conv{i}")(t))
            t = t if last else t.relu()
        return t

    def attended(module, t, attention=fusion.attention):
        return mask_of(module, t, attention, fusion.gate_init) * t

    s = x if block.downsample is None else block.downsample(x)
    if fusion.pattern == "p4":
        gamma_skip, gamma_residual = strengths
        f = branch(x)
        if gamma_skip:
            s = s + gamma_skip * attended(block.skip_attention, s, fusion.skip_attention)
        return (s + f + gamma_residual * attended(block.residual_attention, f)).relu()
    (lam,) = strengths
    if fusion.pattern == "p1":
        f = branch(x)
        return (s + f + lam * (attended(block.se, f) - f)).relu()
    if fusion.pattern == "p2":
        z = s + branch(x)
        return ((1 - lam) * z + lam * attended(block.post, z)).relu()
    return (s + branch(x + lam * (attended(block.pre, x) - x))).relu()
