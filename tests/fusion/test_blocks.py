import itertools

import pytest
import torch
from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import nn
from torch.nn import functional as F

from nas.architecture import ATTENTIONS, GAMMA_MARGIN, StageFusion
from nas.fusion.blocks import FusedBasicBlock, FusedBottleneck
from nas.fusion.norms import GroupNorm
from tests.fusion.reference import block_output, randomise

FUSED = {"basic": FusedBasicBlock, "bottleneck": FusedBottleneck}
PLAIN = {"basic": BasicBlock, "bottleneck": Bottleneck}
BLEND = ("p1", "p2", "p3")

kinds = pytest.mark.parametrize("kind", ["basic", "bottleneck"])


def build(kind, fusion, *, stride=2, norm=nn.BatchNorm2d, dtype=torch.float32, cls=None, **more):
    """A block of 8 (16) planes that receives 16 (64) channels; the projection is there where stride is 2."""
    cls = cls or FUSED[kind]
    planes = 16
    channels = planes * cls.expansion
    inplanes = channels // 2 if stride == 2 else channels
    downsample = None
    if stride == 2:
        downsample = downsample_conv(inplanes, channels, 1, stride=2, norm_layer=norm, dtype=dtype)
    if fusion is not None:
        more["fusion"] = fusion
    block = cls(inplanes, planes, stride, downsample, norm_layer=norm, dtype=dtype, **more).eval()
    randomise(block)
    return block, torch.randn(2, inplanes, 6, 6, dtype=dtype).relu()


def fusion_of(pattern, attention="se", **fields):
    return StageFusion(pattern=pattern, attention=attention, reduction=4, **fields)


@kinds
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pattern", ["p1", "p2", "p3", "p4"])
def test_output_follows_the_formula(kind, attention, learnable, stride, pattern):
    for norm, gate_init in itertools.product((nn.BatchNorm2d, GroupNorm), ("textbook", "open")):
        if pattern == "p4":
            strengths = (0.2, 0.7)
            fields = {"gamma_skip_init": 0.2, "gamma_residual_init": 0.7, "skip_attention": "se"}
        else:
            strengths = (0.4,)
            fields = {"lambda_init": 0.4}
        fusion = fusion_of(pattern, attention, learnable=learnable, gate_init=gate_init, **fields)
        block, x = build(kind, fusion, stride=stride, norm=norm, dtype=torch.float64)
        torch.testing.assert_close(block(x), block_output(block, x, fusion, strengths))


@kinds
@pytest.mark.parametrize("skip_attention", ["eca", "se"])
def test_p4_skip_attention(kind, skip_attention):
    fusion = fusion_of("p4", "cbam", skip_attention=skip_attention, gamma_skip_init=0.1, gamma_residual_init=0.3)
    block, x = build(kind, fusion, dtype=torch.float64)
    torch.testing.assert_close(block(x), block_output(block, x, fusion, (0.1, 0.3)))


@kinds
def test_p4_without_skip_strength_has_no_skip_module(kind):
    fusion = fusion_of("p4", "coord", gamma_residual_init=0.3)
    block, x = build(kind, fusion, dtype=torch.float64)
    assert block.skip_attention is None
    torch.testing.assert_close(block(x), block_output(block, x, fusion, (0.0, 0.3)))


@kinds
@pytest.mark.parametrize("pattern", BLEND)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_lambda_zero_is_the_plain_block_bit_for_bit(kind, pattern, attention):
    block, x = build(kind, fusion_of(pattern, attention, lambda_init=0.0, learnable=True))
    plain, _ = build(kind, None, cls=PLAIN[kind])
    plain.load_state_dict(block.state_dict(), strict=False)
    assert torch.equal(block(x), plain(x))


@kinds
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_gamma_zero_is_the_plain_block_bit_for_bit(kind, attention):
    block, x = build(kind, fusion_of("p4", attention, gamma_skip_init=0.1, gamma_residual_init=0.2))
    block.fixed_gamma_skip = block.fixed_gamma_residual = 0.0
    plain, _ = build(kind, None, cls=PLAIN[kind])
    plain.load_state_dict(block.state_dict(), strict=False)
    assert torch.equal(block(x), plain(x))


@pytest.mark.parametrize("pattern", ["p1", "p3"])
def test_p1_and_p3_leave_the_skip_untouched(pattern):
    """Where the branch gives nothing, the input passes unchanged."""
    block, x = build("basic", fusion_of(pattern, "cbam"), stride=1)
    nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(block.bn2.bias)
    assert torch.equal(block(x), x)


def test_p2_and_p4_touch_the_skip():
    for fusion in (fusion_of("p2"), fusion_of("p4", gamma_skip_init=0.1, gamma_residual_init=0.2)):
        block, x = build("basic", fusion, stride=1)
        nn.init.zeros_(block.bn2.weight)
        nn.init.zeros_(block.bn2.bias)
        assert not torch.allclose(block(x), x)


@kinds
@pytest.mark.parametrize("pattern", ["p1", "p2", "p3", "p4"])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, GroupNorm])
def test_gradients_reach_every_parameter(kind, pattern, attention, norm):
    fusion = fusion_of(pattern, attention, lambda_init=0.5, gamma_skip_init=0.05, learnable=True)
    block, x = build(kind, fusion, norm=norm)
    out = block.train()(x)
    (out * torch.randn_like(out)).sum().backward()
    dead = [n for n, p in block.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


def test_learned_scalars_are_parameters_of_the_block():
    block, _ = build("basic", fusion_of("p1", lambda_init=0.25, learnable=True))
    assert {n: p.item() for n, p in block.named_parameters() if p.ndim == 0} == {"lam": 0.25}
    block, _ = build("basic", fusion_of("p4", learnable=True))
    assert {n for n, p in block.named_parameters() if p.ndim == 0} == {"gamma_skip", "gamma_gap"}
    block, _ = build("basic", fusion_of("p2", lambda_init=0.25))
    assert all(p.ndim > 0 for p in block.parameters())


def test_the_skip_attention_sees_the_projected_skip():
    fusion = fusion_of("p4", skip_attention="se", gamma_skip_init=0.1, gamma_residual_init=0.2)
    block, x = build("basic", fusion)
    seen = []
    block.skip_attention.fc1.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    block(x)
    torch.testing.assert_close(seen[0], block.downsample(x).mean((2, 3), keepdim=True))


@pytest.mark.parametrize("lambda_init", [0.0, 0.5, 1.0])
def test_lambda_stays_in_its_interval_and_comes_back(lambda_init):
    block, x = build("basic", fusion_of("p2", lambda_init=lambda_init, learnable=True))
    optimizer = torch.optim.SGD([block.lam], lr=0.3)

    def step(sign):
        optimizer.zero_grad()
        (sign * block.blend_strength(x)).backward()
        optimizer.step()
        return block.blend_strength(x).item()

    up = [step(-1) for _ in range(8)]
    down = [step(+1) for _ in range(16)]
    assert all(0 <= value <= 1 for value in up + down)
    assert up[-1] == 1
    assert down[-1] == 0


@pytest.mark.parametrize("learning_rate", [0.1, 10.0])
@pytest.mark.parametrize("direction", [1, -1])
def test_gamma_skip_stays_below_gamma_residual(learning_rate, direction):
    """An optimiser that does nothing but pull them across each other."""
    block, x = build("basic", fusion_of("p4", gamma_skip_init=0.05, gamma_residual_init=0.1, learnable=True))
    optimizer = torch.optim.SGD([block.gamma_skip, block.gamma_gap], lr=learning_rate)
    for _ in range(30):
        skip, residual = block.skip_strength(x), block.residual_strength(x)
        assert skip < residual
        optimizer.zero_grad()
        (residual - skip + direction * 0.5 * skip.tanh()).backward()
        optimizer.step()


@pytest.mark.parametrize(("skip", "residual"), [(0.0, 0.1), (0.05, 0.1), (0.0, 0.00011), (1.0, 30.0)])
def test_learned_gammas_start_where_they_were_searched(skip, residual):
    fusion = fusion_of("p4", gamma_skip_init=skip, gamma_residual_init=residual, learnable=True)
    block, x = build("basic", fusion, dtype=torch.float64)
    assert block.skip_strength(x).item() == skip
    assert block.residual_strength(x).item() == pytest.approx(residual, rel=1e-9)
    assert block.residual_strength(x) - block.skip_strength(x) > GAMMA_MARGIN


@pytest.mark.parametrize("pattern", ["p1", "p2", "p3", "p4"])
def test_open_gates_start_at_the_plain_block(pattern):
    fusion = fusion_of(pattern, "cbam", gate_init="open", gamma_residual_init=0.1)
    plain, x = build("basic", None, cls=BasicBlock)
    block, _ = build("basic", fusion)
    block.load_state_dict(plain.state_dict(), strict=False)
    block.init_fusion()
    if pattern != "p4":
        assert torch.equal(block(x), plain(x))
    else:
        f = plain.bn2(plain.conv2(F.relu(plain.bn1(plain.conv1(x)))))
        torch.testing.assert_close(block(x), (plain.downsample(x) + 1.1 * f).relu())
