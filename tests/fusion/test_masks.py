import pytest
import torch
import torch.nn.functional as F
from timm.layers import EcaModule, SEModule
from timm.layers.cbam import CbamModule
from timm.layers.coord_attn import CoordAttn

from nas.architecture import ATTENTIONS
from nas.fusion.masks import create_mask
from nas.fusion.norms import GroupNorm
from tests.fusion.reference import mask_of, randomise

TIMM = {"se": SEModule, "eca": EcaModule, "cbam": CbamModule, "coord": CoordAttn}
NORMS = {"batch": torch.nn.BatchNorm2d, "group": GroupNorm}

attentions = pytest.mark.parametrize("attention", ATTENTIONS)
gates = pytest.mark.parametrize("gate_init", ["textbook", "open"])


def build(attention, gate_init="textbook", norm="batch", channels=32, **factory):
    mask = create_mask(attention, channels, reduction=4, gate_init=gate_init, norm_layer=NORMS[norm], **factory)
    return mask.eval()


@attentions
@gates
@pytest.mark.parametrize(("norm", "training"), [("batch", False), ("group", False), ("group", True)])
def test_mixing_follows_the_formula(attention, gate_init, norm, training):
    mask = build(attention, gate_init, norm, dtype=torch.float64).train(training)
    randomise(mask)
    t = torch.randn(2, 32, 5, 7, dtype=torch.float64)
    m = mask_of(mask, t, attention, gate_init)
    strength = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(mask(t), m * t)
    torch.testing.assert_close(mask.blend(t, None), m * t)
    torch.testing.assert_close(mask.blend(t, strength), 0.7 * t + 0.3 * m * t)
    torch.testing.assert_close(mask.blend(t, strength), t + 0.3 * (m * t - t))
    torch.testing.assert_close(mask.boost(t, strength), t * (1 + 0.3 * m))


@attentions
@pytest.mark.parametrize("training", [False, True])
def test_forward_and_gradients_are_timms(attention, training):
    mask = build(attention, dtype=torch.float64).train(training)
    randomise(mask)
    t = torch.randn(2, 32, 5, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(t)
    inputs = [t, *mask.parameters()]
    ours = torch.autograd.grad((mask(t) * weight).sum(), inputs)
    theirs = torch.autograd.grad((TIMM[attention].forward(mask, t) * weight).sum(), inputs)
    torch.testing.assert_close(ours, theirs)


@attentions
def test_strength_zero_is_exact_and_one_is_textbook(attention):
    mask = build(attention)
    randomise(mask)
    t = torch.randn(2, 32, 5, 7)
    assert torch.equal(mask.blend(t, torch.tensor(0.0)), t)
    assert torch.equal(mask.boost(t, torch.tensor(0.0)), t)
    torch.testing.assert_close(mask.blend(t, torch.tensor(1.0)), mask.blend(t, None), rtol=1e-6, atol=0)


@attentions
@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("training", [False, True])
def test_open_gates_are_exactly_one_and_learn(attention, norm, training):
    mask = build(attention, "open", norm).train(training)
    t = torch.randn(2, 32, 5, 7)
    assert torch.equal(mask(t), t)
    (mask(t) * torch.randn_like(t)).sum().backward()
    for layer in mask.last_layers():
        assert layer.weight.grad.abs().max() > 1e-3


@attentions
def test_textbook_gates_start_near_a_half(attention):
    mask = build(attention)
    seen = []
    for name, module in mask.named_modules():
        if name.endswith("gate"):
            module.register_forward_hook(lambda _module, _args, output: seen.append(output))
    t = torch.randn(4, 32, 6, 6)
    mask.blend(t, torch.tensor(0.5))
    assert len(seen) == (2 if attention in ("cbam", "coord") else 1)
    assert all(0.3 < gate.mean() < 0.7 for gate in seen)


@pytest.mark.parametrize(("attention", "layer"), [("se", "fc1"), ("cbam", "channel.fc1"), ("coord", "conv1")])
@pytest.mark.parametrize(("reduction", "hidden"), [(1, 48), (4, 12), (5, 9), (16, 4), (48, 4)])
def test_the_hidden_width_is_not_rounded(attention, layer, reduction, hidden):
    mask = create_mask(attention, 48, reduction=reduction)
    assert mask.get_submodule(layer).out_channels == hidden


@attentions
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_autocast_keeps_the_dtype_of_the_input(attention, norm):
    mask = build(attention, norm=norm)
    t = torch.randn(2, 32, 4, 4, dtype=torch.bfloat16)
    strength = torch.tensor(0.5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert mask.blend(t, strength).dtype == mask.boost(t, strength).dtype == torch.bfloat16


@pytest.mark.parametrize("channels_and_groups", [(4, 1), (16, 1), (24, 1), (40, 2), (100, 2), (64, 4), (512, 32)])
def test_group_norm_has_sixteen_channels_a_group_where_that_divides(channels_and_groups):
    channels, groups = channels_and_groups
    norm = GroupNorm(channels)
    assert norm.num_groups == groups
    x = torch.randn(2, channels, 3, 3)
    assert torch.equal(norm(x), F.group_norm(x, groups, norm.weight, norm.bias))


def test_group_norm_takes_one_value():
    norm = GroupNorm(1)
    torch.nn.init.constant_(norm.bias, 0.25)
    assert norm(torch.full((1, 1, 1, 1), 3.0)).item() == pytest.approx(0.25, abs=1e-4)
