"""The checklist passes on every landmark, and each planted fault is caught by its own line."""

import pytest
import torch
from torch import nn

from nas.architecture import ATTENTIONS, Architecture, Backbone
from nas.fusion.blocks import FusedBasicBlock, FusedBlock, FusedBottleneck
from nas.fusion.check import check
from nas.fusion.masks import Mask
from nas.fusion.models import build_model
from nas.space.landmarks import LANDMARKS, landmark


def arch(stage, name="resnet_micro", **more):
    stem = "small" if name == "resnet_micro" else "imagenet"
    stages = [stage] * 4 if name == "resnet_micro" else [stage] * 2 + [{"pattern": "none"}] * 2
    return Architecture(backbone=Backbone(name=name, stem=stem), num_classes=5, stages=stages, **more)


def verdicts(lines):
    return {line.name: line.verdict for line in lines}


def failed(lines):
    return {line.name for line in lines if line.verdict == "fail"}


@pytest.mark.parametrize(
    ("backbone", "name"),
    [*(("resnet_micro", name) for name in LANDMARKS), ("resnet14t", "dual-default")],
)
def test_landmarks_pass(name, backbone):
    lines = check(landmark(name, backbone=Backbone(name=backbone), num_classes=10, in_chans=1))
    assert failed(lines) == set(), lines
    warned = {line.name for line in lines if line.verdict == "warn"}
    assert warned <= {"stabiliser", "trunk-scale", "gate-opening"}
    assert ("stabiliser" in warned) == (name == "se-post")


@pytest.mark.parametrize("pattern", ["p1", "p2", "p3", "p4"])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_every_pattern_and_attention_passes(pattern, attention, norm):
    stage = {"pattern": pattern, "attention": attention, "lambda_init": 0.1, "learnable": True, "gate_init": "open"}
    lines = check(arch(stage | {"gamma_skip_init": 0.05}, norm=norm, in_chans=1))
    assert set(verdicts(lines).values()) == {"pass"}, lines


def test_lines_about_absent_patterns_are_left_out():
    assert verdicts(check(arch({"pattern": "none"}))) == {"strength-zero": "pass", "trunk-scale": "pass"}


def test_only_fused_blocks_are_asked():
    stage = {"pattern": "p2", "attention": "se", "blocks": [1]}
    lines = {line.name: line for line in check(arch(stage, "resnet26"))}
    assert lines["p2-attention"].evidence.startswith("layer1.1 (of 2 blocks): ")
    assert "projection" not in lines  # neither of the two changes shapes
    assert failed(lines.values()) == set()


def test_checking_leaves_model_and_generator_alone():
    model = build_model(arch({"pattern": "p2", "attention": "cbam"})).train()
    state, generator = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    check(model)
    assert torch.equal(torch.get_rng_state(), generator)
    assert model.training
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_textbook_post_addition_shrinks_the_trunk_and_says_so():
    lines = {line.name: line for line in check(arch({"pattern": "p2", "attention": "se"}, "resnet18"))}
    assert (lines["stabiliser"].verdict, lines["trunk-scale"].verdict) == ("warn", "warn")
    assert "a small λ" in lines["stabiliser"].evidence


# Planted faults: what the blocks claim in ``fusion`` stays, what they compute is wrong.


def planted(stage, block, fault, name="resnet_micro"):
    """A network whose fused blocks are replaced by a faulty subclass."""
    model = build_model(arch(stage, name))
    faulty = type("Faulty", (block,), fault)
    for module in model.modules():
        if isinstance(module, block):
            module.__class__ = faulty
    return model


def attention_on_the_residual(self, x):
    s = x if self.downsample is None else self.downsample(x)
    f = self.branch(x)
    return self.activate(s + self.post.blend(f, self.blend_strength(f)))


P2 = {"pattern": "p2", "attention": "se", "lambda_init": 0.1, "learnable": True}
P4 = {"pattern": "p4", "attention": "cbam", "gamma_skip_init": 0.05}

both = pytest.mark.parametrize(
    ("block", "name"), [(FusedBasicBlock, "resnet_micro"), (FusedBottleneck, "resnet14t")], ids=["basic", "bottleneck"]
)


@both
def test_attention_on_f_where_p2_says_z(block, name):
    lines = check(planted(P2, block, {"forward": attention_on_the_residual}, name))
    assert failed(lines) >= {"p2-sum-first", "p2-attention"}
    assert verdicts(lines)["strength-zero"] == "pass"


@pytest.mark.parametrize(("pattern", "caught"), [("p1", "p1"), ("p2", "p2"), ("p3", "p3"), ("p4", "p4")])
def test_addition_for_multiplication(pattern, caught, monkeypatch):
    model = build_model(arch({"pattern": pattern, "attention": "se"}))

    def added(self, t, strength):
        strength = 1.0 if strength is None else strength
        return t + strength * self.factor(t, torch.zeros(()), torch.ones(()))

    monkeypatch.setattr(Mask, "blend", added)
    monkeypatch.setattr(Mask, "boost", added)
    assert "multiplied" in failed(check(model))


def without_projection(self, x):
    s = x
    if self.downsample is not None:  # pooled, and zeros for the channels that are missing
        stride = self.conv1.stride[0]
        s = nn.functional.avg_pool2d(x, stride) if stride > 1 else x
        s = nn.functional.pad(s, (0, 0, 0, 0, 0, self.bn2.num_features - s.shape[1]))
    z = s + self.branch(x)
    return self.activate(self.post.blend(z, self.blend_strength(z)))


def test_an_unprojected_skip_beside_a_projection():
    lines = check(planted(P2, FusedBasicBlock, {"forward": without_projection}))
    assert "projection" in failed(lines)


def test_a_skip_whose_projection_was_taken_away():
    model = build_model(arch(P2))
    model.layer2[0].downsample = None
    lines = {line.name: line for line in check(model)}
    assert lines["projection"].verdict == "fail"
    assert "layer2.0" in lines["projection"].evidence
    assert "32 → 64" not in lines["projection"].evidence
    assert "16 → 32 channels at stride 2 without a projection" in lines["projection"].evidence


def attention_before_the_projection(self, x):
    s = self.skip_attention_on_input(x)
    s = s if self.downsample is None else self.downsample(s)
    return self.activate(s + self.residual_attention.boost(self.branch(x), self.residual_strength(x)))


def test_a_projection_of_something_else_than_the_input():
    fault = {"forward": attention_before_the_projection, "skip_attention_on_input": lambda self, x: 0.9 * x}
    assert "projection" in failed(check(planted(P4, FusedBasicBlock, fault)))


@both
@pytest.mark.parametrize("skip", [0.1, 0.3])
def test_gamma_skip_not_below_gamma_residual(block, name, skip):
    model = build_model(arch(P4, name))
    for module in model.modules():
        if isinstance(module, block):
            module.fixed_gamma_skip = skip
    lines = {line.name: line for line in check(model)}
    assert failed(lines.values()) == {"p4-gamma-order"}
    assert f"γ_s = {skip:g}, γ_r = 0.1" in lines["p4-gamma-order"].evidence


def test_gammas_that_learning_could_cross():
    def residual_strength(self, like):
        if self.gamma_gap is None:
            return FusedBlock.residual_strength(self, like)
        return self.gamma_skip + self.gamma_gap

    fault = {"residual_strength": residual_strength}
    model = planted(P4 | {"learnable": True}, FusedBasicBlock, fault)
    for module in model.modules():
        if isinstance(module, FusedBasicBlock):
            nn.init.constant_(module.gamma_gap, 0.05)
    assert "p4-gamma-order" in failed(check(model))


@pytest.mark.parametrize("pattern", ["p1", "p3"])
def test_a_touched_skip(pattern):

    def touched(self, x):
        s = x if self.downsample is None else self.downsample(x)
        mask = self.se if pattern == "p1" else self.pre
        s = s * 0.9
        f = self.branch(mask.blend(x, None) if pattern == "p3" else x)
        return self.activate(s + (mask.blend(f, None) if pattern == "p1" else f))

    lines = check(planted({"pattern": pattern, "attention": "se"}, FusedBasicBlock, {"forward": touched}))
    assert failed(lines) >= {"skip-untouched", "strength-zero"}


def test_gates_that_do_not_open():
    model = build_model(arch({"pattern": "p1", "attention": "se", "gate_init": "open"}))
    for mask in (m for m in model.modules() if isinstance(m, Mask)):
        nn.init.constant_(mask.fc2.bias, -3.0)
    assert failed(check(model)) == {"gate-opening"}


def test_a_mask_out_of_range():
    model = build_model(arch({"pattern": "p1", "attention": "se"}))
    for mask in (m for m in model.modules() if isinstance(m, Mask)):
        mask.gate = nn.Tanh()
    assert "mask-range" in failed(check(model))
