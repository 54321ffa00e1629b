import json
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models import save_for_hf
from timm.models.resnet import BasicBlock, Bottleneck

from nas.architecture import ATTENTIONS, Architecture, Backbone, StageFusion
from nas.backbones import BACKBONES, MICRO
from nas.errors import UserError
from nas.fusion import models
from nas.fusion.blocks import FusedBlock
from nas.fusion.masks import Mask
from nas.fusion.models import FusionResNet, adapt_checkpoint, build_model, model_args
from tests.fusion.reference import randomise

MIXED = [
    {"pattern": "p1", "attention": "coord", "lambda_init": 0.5},
    {"pattern": "p2", "attention": "cbam", "lambda_init": 0.1, "learnable": True},
    {"pattern": "p3", "attention": "eca", "gate_init": "open"},
    {"pattern": "p4", "attention": "se", "gamma_skip_init": 0.05, "learnable": True},
]
SE_R16 = {"pattern": "p1", "attention": "se", "reduction": 16}

in_timm = pytest.mark.parametrize("name", [name for name, shape in BACKBONES.items() if shape.in_timm])


def shapes(model):
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def architecture(*stages, name=MICRO, **more):
    stem = "small" if name == MICRO else "imagenet"
    fields = {"num_classes": 10, **more}
    return Architecture(backbone={"name": name, "stem": stem}, stages=stages, **fields)


# The plain network


@in_timm
def test_without_fusion_it_is_timms_network(name):
    ours = timm.create_model(f"fusion_{name}", device="meta")
    theirs = timm.create_model(name, device="meta")
    assert shapes(ours) == shapes(theirs)
    assert ours.feature_info == theirs.feature_info
    assert {type(m) for m in ours.modules()} - {FusionResNet} == {type(m) for m in theirs.modules()} - {type(theirs)}


@pytest.mark.parametrize("name", BACKBONES)
def test_the_shape_of_a_backbone_is_what_is_built(name):
    shape = BACKBONES[name]
    model = timm.create_model(f"fusion_{name}", device="meta")
    for i in range(4):
        blocks = list(getattr(model, f"layer{i + 1}"))
        assert all(isinstance(b, BasicBlock if shape.block == "basic" else Bottleneck) for b in blocks)
        assert len(blocks) == shape.layers[i]
        assert {b.conv1.in_channels for b in blocks} == set(shape.input_channels(i))
        assert model.feature_info[i + 1]["num_chs"] == shape.channels[i]


@pytest.mark.parametrize(("name", "patterns"), [("resnet18", ("p1", "p2", "p3", "p4")), ("resnet50", ("p2", "p4"))])
def test_strength_zero_is_timms_network_bit_for_bit(name, patterns):
    theirs = timm.create_model(name, num_classes=10).eval()
    randomise(theirs)
    x = torch.randn(1, 3, 64, 64)
    expected = theirs(x)
    for pattern in patterns:
        stage = {"pattern": pattern, "attention": "cbam", "lambda_init": 0.0, "learnable": pattern != "p4"}
        ours = timm.create_model(f"fusion_{name}", fusion=[stage] * 4, num_classes=10).eval()
        ours.load_state_dict(adapt_checkpoint(theirs.state_dict(), ours))
        for block in (m for m in ours.modules() if isinstance(m, FusedBlock)):
            block.fixed_gamma_residual = 0.0
        assert torch.equal(ours(x), expected)


@pytest.mark.parametrize(
    ("name", "reductions"),
    [
        ("resnet50", (16, 16, 16, 16)),
        ("resnet101", (16, 16, 16, 16)),
        ("resnet18", (8, 16, 16, 16)),
        ("resnet34", (8, 16, 16, 16)),
    ],
)
def test_p1_se_is_timms_se_resnet(name, reductions):
    theirs = timm.create_model(f"se{name}", num_classes=10).eval()
    randomise(theirs)
    fusion = [{**SE_R16, "reduction": reduction} for reduction in reductions]
    ours = timm.create_model(f"fusion_{name}", fusion=fusion, num_classes=10).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(ours(x), theirs(x))


def test_timm_rounds_the_narrowest_hidden_width_up():
    """Why reduction 16 has no weights of seresnet18 in its first stage: 64 / 16 is 4 here and 8 there."""
    theirs = timm.create_model("seresnet18", num_classes=10)
    ours = timm.create_model("fusion_resnet18", fusion=[SE_R16] * 4, num_classes=10)
    differ = [key for key, value in ours.state_dict().items() if value.shape != theirs.state_dict()[key].shape]
    assert {key.split(".")[0] for key in differ} == {"layer1"}
    assert {tuple(ours.state_dict()[key].shape) for key in differ if key.endswith("fc1.weight")} == {(4, 64, 1, 1)}


def test_stages_without_fusion_are_made_of_stock_blocks():
    off = {"pattern": "p2", "attention": "cbam", "lambda_init": 0.0}
    model = timm.create_model("fusion_resnet18", fusion=[None, off, {"pattern": "none"}, SE_R16], device="meta")
    assert [type(getattr(model, f"layer{i}")[0]) is BasicBlock for i in (1, 2, 3, 4)] == [True] * 3 + [False]


# Single blocks


@pytest.mark.parametrize(("name", "block"), [("resnet18", BasicBlock), ("resnet26", Bottleneck)])
def test_blocks_without_fusion_are_timms_stock_blocks(name, block):
    fusion = [None, {**SE_R16, "blocks": [1]}, {**SE_R16, "blocks": [0]}, {**SE_R16, "blocks": [1, 0]}]
    model = timm.create_model(f"fusion_{name}", fusion=fusion, device="meta")
    stages = [list(getattr(model, f"layer{i}")) for i in (1, 2, 3, 4)]
    assert [[type(b) is block for b in stage] for stage in stages] == [
        [True, True],
        [True, False],
        [False, True],
        [False, False],
    ]
    assert {key.split(".se.")[0] for key in model.fusion_keys()} == {"layer2.1", "layer3.0", "layer4.0", "layer4.1"}


@pytest.mark.parametrize("stage", MIXED, ids=lambda stage: stage["pattern"])
def test_a_block_computes_what_it_does_in_a_stage_of_its_kind(deep_micro, stage):
    """Fused where chosen as in the network that is fused throughout, elsewhere as in timm's."""
    blocks = [{1}, {0}, {0, 2}, {1}]
    whole = timm.create_model(f"fusion_{MICRO}", fusion=[stage, None, stage, stage]).eval()
    plain = timm.create_model(f"fusion_{MICRO}").eval()
    mixed = timm.create_model(
        f"fusion_{MICRO}",
        fusion=[None if i == 1 else {**stage, "blocks": sorted(b)} for i, b in enumerate(blocks)],
    ).eval()
    randomise(whole)
    state = whole.state_dict()
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    mixed.load_state_dict({key: state[key] for key in mixed.state_dict()})
    assert len(plain.state_dict()) < len(mixed.state_dict()) < len(state)
    x = torch.randn(2, 3, 16, 16)
    expected = plain.maxpool(plain.act1(plain.bn1(plain.conv1(x))))
    for i, chosen in enumerate(blocks):
        fused, stock = getattr(whole, f"layer{i + 1}"), getattr(plain, f"layer{i + 1}")
        for number in range(len(stock)):
            expected = (fused if number in chosen else stock)[number](expected)
    assert torch.equal(mixed(x), plain.forward_head(expected))
    assert not torch.equal(mixed(x), whole(x))


def test_all_blocks_are_the_stage_bit_for_bit(deep_micro):
    every = [{**stage, "blocks": list(range(n))} for stage, n in zip(MIXED, BACKBONES[MICRO].layers, strict=True)]
    models_ = []
    for fusion in (MIXED, every):
        torch.manual_seed(0)
        models_.append(timm.create_model(f"fusion_{MICRO}", fusion=fusion))
    first, second = (model.state_dict() for model in models_)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(models_[0].eval()(x), models_[1].eval()(x))


def test_single_blocks_take_plain_weights_and_come_back(plain_state, tmp_path):
    arch = architecture({}, {**SE_R16, "blocks": [1]}, {**MIXED[1], "blocks": [0]}, {}, name="resnet18")
    model = pretrained(plain_state, fusion=model_args(arch)["fusion"], num_classes=10).eval()
    assert torch.equal(model.layer2[0].conv1.weight, plain_state["layer2.0.conv1.weight"])
    save_for_hf(model, tmp_path, model_args=model_args(arch), safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(x), model(x))


# Stems and norms


@pytest.mark.parametrize(
    ("name", "stem", "reductions"),
    [
        (MICRO, None, [1, 1, 2, 4, 8]),
        (MICRO, "imagenet", [2, 4, 8, 16, 32]),
        ("resnet18", None, [2, 4, 8, 16, 32]),
        ("resnet18", "small", [1, 1, 2, 4, 8]),
        ("resnet10t", "small", [1, 1, 2, 4, 8]),
        ("resnet50d", "imagenet", [2, 4, 8, 16, 32]),
    ],
)
def test_features_have_the_announced_shapes(name, stem, reductions):
    model = timm.create_model(f"fusion_{name}", stem=stem, fusion=MIXED, features_only=True).eval()
    features = model(torch.randn(1, 3, 64, 64))
    assert model.feature_info.reduction() == reductions
    assert [tuple(f.shape[1:]) for f in features] == [
        (channels, 64 // reduction, 64 // reduction)
        for channels, reduction in zip(model.feature_info.channels(), reductions, strict=True)
    ]


@pytest.mark.parametrize(("stem", "size", "stride"), [("small", 3, 1), ("imagenet", 7, 2)])
@pytest.mark.parametrize("name", [MICRO, "resnet18"])
def test_a_plain_stem_is_one_convolution(name, stem, size, stride):
    model = timm.create_model(f"fusion_{name}", stem=stem, in_chans=1)
    channels = BACKBONES[name].stem_channels
    assert model.conv1.weight.shape == (channels, 1, size, size)
    assert model.conv1.stride == (stride, stride)
    assert isinstance(model.maxpool, torch.nn.Identity) == (stem == "small")
    fan_out = channels * size * size
    assert model.conv1.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.3)


@pytest.mark.parametrize("name", [MICRO, "resnet14t"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_group_norm_is_the_only_norm(name, attention):
    fusion = [{**stage, "attention": attention} for stage in MIXED]
    model = timm.create_model(f"fusion_{name}", fusion=fusion, norm="group", stem="small", num_classes=3)
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
    loss = model.train()(torch.randn(1, 3, 8, 8)).square().sum()  # one image, 1×1 in the last stage
    loss.backward()
    assert torch.isfinite(loss)


# timm's own interface


def test_every_backbone_is_registered_with_the_weights_of_its_plain_network():
    assert set(timm.list_models("fusion_*")) == {f"fusion_{name}" for name in BACKBONES}
    assert set(timm.list_pretrained("fusion_resnet50*")) >= {
        f"fusion_{name}" for name in timm.list_pretrained("resnet50.*")
    }
    cfg, plain = timm.get_pretrained_cfg("fusion_resnet50"), timm.get_pretrained_cfg("resnet50")
    assert cfg.architecture == "fusion_resnet50"
    assert (cfg.hf_hub_id, cfg.url, cfg.tag, cfg.mean) == (plain.hf_hub_id, plain.url, plain.tag, plain.mean)
    assert not timm.models.is_model_pretrained(f"fusion_{MICRO}")


def test_importing_nas_registers_the_models():
    code = "import nas, sys; assert 'timm' not in sys.modules; import timm; assert timm.is_model('fusion_resnet18')"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_create_model_takes_timms_arguments():
    model = timm.create_model(
        "fusion_resnet18",
        fusion=MIXED,
        num_classes=7,
        in_chans=2,
        global_pool="max",
        drop_path_rate=0.2,
        drop_rate=0.1,
        output_stride=8,
        dtype=torch.float64,
    )
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert model.layer4[1].drop_path.drop_prob == 0.2
    x = torch.randn(2, 2, 32, 32, dtype=torch.float64)
    assert model(x).shape == (2, 7)
    assert model.forward_features(x).shape == (2, 512, 4, 4)
    groups = timm.models.group_parameters(model, model.group_matcher())
    assert {name for names in groups.values() for name in names} == {n for n, _ in model.named_parameters()}


def test_fused_bottlenecks_drop_blocks_and_antialias_as_timm_does():
    options = {"drop_block_rate": 0.3, "aa_layer": torch.nn.AvgPool2d, "num_classes": 5}
    theirs = timm.create_model("seresnet50", **options)
    ours = timm.create_model("fusion_resnet50", fusion=[SE_R16] * 4, **options)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 64, 64)
    torch.manual_seed(1)
    expected = theirs.train()(x)
    torch.manual_seed(1)
    assert torch.equal(ours.train()(x), expected)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_save_for_hf_comes_back(tmp_path, norm):
    arch = architecture(*MIXED, norm=norm, in_chans=1)
    model = build_model(arch).eval()
    randomise(model)
    save_for_hf(model, tmp_path, model_args=model_args(arch), safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["model_args"]["fusion"][0] == MIXED[0] | {
        "reduction": 4,
        "learnable": False,
        "gate_init": "textbook",
    }
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(loaded(x), model(x))


# Weights of the plain network


def pretrained(state, **more):
    overlay = {"state_dict": state, "hf_hub_id": None, "url": None}
    options = {"fusion": MIXED, **more}
    return timm.create_model("fusion_resnet18", pretrained=True, pretrained_cfg_overlay=overlay, **options)


@pytest.fixture(scope="module")
def plain_state():
    model = timm.create_model("resnet18")
    randomise(model)
    return model.state_dict()


@pytest.mark.parametrize("num_classes", [1000, 10])
def test_a_fused_network_starts_from_the_plain_weights(plain_state, num_classes):
    model = pretrained(plain_state, num_classes=num_classes)
    state = model.state_dict()
    assert model.fusion_keys() == set(state) - set(plain_state)
    taken = [key for key in plain_state if num_classes == 1000 or not key.startswith("fc.")]
    assert all(torch.equal(state[key], plain_state[key]) for key in taken)
    assert state["layer2.0.lam"] == torch.tensor(0.1)


def test_a_replaced_stem_starts_fresh(plain_state):
    model = pretrained(plain_state, stem="small")
    assert model.conv1.weight.shape == (64, 3, 3, 3)
    assert torch.equal(model.layer4[1].bn2.bias, plain_state["layer4.1.bn2.bias"])


def test_weights_that_do_not_fit_are_refused(plain_state):
    lacking = {k: v for k, v in plain_state.items() if not k.startswith("layer4")}
    with pytest.raises(UserError, match=r"the checkpoint lacks layer4\.0\.conv1\.weight and"):
        pretrained(lacking, num_classes=10)
    with pytest.raises(UserError, match="batch norm, the model has norm: group"):
        pretrained(plain_state, norm="group")
    half_fused = {**plain_state, "layer2.0.lam": torch.tensor(0.5)}
    with pytest.raises(UserError, match=r"lacks layer1\.0\.se\.conv1\.weight and"):
        pretrained(half_fused, num_classes=10)


# What a fusion may be


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fusion": [None] * 3}, "fusion: expected 4 entries, got 3"),
        ({"fusion": "p1"}, "fusion: expected a list of 4 entries, got 'p1'"),
        ({"fusion": [None, None, "p1", None]}, r"fusion\.2: expected a mapping of keys, got str"),
        ({"fusion": [None, None, {"pattern": "p9"}, None]}, r"fusion\.2: pattern: .*got 'p9'"),
        ({"fusion": [{"pattern": "p1"}, None, None, None]}, r"fusion\.0: pattern p1 needs attention"),
        ({"fusion": [{**SE_R16, "reduction": 0}, None, None, None]}, r"fusion\.0: reduction: .*got 0"),
        (
            {"fusion": [None, {**SE_R16, "blocks": [2]}, None, None]},
            r"fusion\.1\.blocks: this stage of the backbone has the blocks 0 to 1, got 2",
        ),
        ({"fusion": [None] * 3 + [{**SE_R16, "colour": 1}]}, r"fusion\.3: colour: unknown key"),
        ({"stem": "tiny"}, "stem: expected one of imagenet, small, got 'tiny'"),
        ({"norm": "layer"}, "norm: expected one of batch, group, got 'layer'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(UserError, match=message):
        timm.create_model("fusion_resnet18", device="meta", **arguments)


def test_build_model_builds_what_the_architecture_says():
    arch = architecture(*MIXED, name="resnet26", num_classes=5, in_chans=1, norm="group")
    model = build_model(arch)
    assert model.fusion == arch.canonical().stages
    assert (model.num_classes, model.in_chans) == (5, 1)
    assert type(model.layer1[0].conv1) is torch.nn.Conv2d
    assert json.loads(json.dumps(model_args(arch))) == model_args(arch)


def test_initialisation_is_repeatable_and_opens_gates():
    arch = architecture(*({**SE_R16, "attention": a, "gate_init": "open"} for a in ATTENTIONS))
    torch.manual_seed(3)
    first = build_model(arch)
    torch.manual_seed(3)
    second = build_model(arch)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    masks = [module for module in first.modules() if isinstance(module, Mask)]
    assert len(masks) == 4
    for stage, mask in enumerate(masks):
        t = torch.randn(2, 16 * 2**stage, 5, 5)
        assert torch.equal(mask(t), t)


def test_init_weights_puts_everything_back():
    model = build_model(architecture(*MIXED))
    model.layer2[0].lam.data.fill_(0.9)
    model.init_weights()
    assert model.layer2[0].lam.item() == pytest.approx(0.1)


# Equal digests and equal networks

REDUCTIONS = st.sampled_from([1, 2, 3, 4, 8, 16, 32])
STRENGTHS = st.sampled_from([0.0, 0.1, 0.5, 1.0])
GAMMAS = st.sampled_from([(0.0, 0.0), (0.0, 0.1), (0.05, 0.1), (0.05, 0.2)])


@st.composite
def stage_fields(draw):
    pattern = draw(st.sampled_from(["none", "p1", "p2", "p3", "p4"]))
    skip, residual = draw(GAMMAS)
    learnable = draw(st.booleans())
    if learnable and residual == 0 and pattern == "p4":
        residual = 0.1
    return {
        "pattern": pattern,
        "attention": draw(st.sampled_from(ATTENTIONS)),
        "skip_attention": draw(st.sampled_from(["eca", "se"])),
        "reduction": draw(REDUCTIONS),
        "lambda_init": draw(STRENGTHS),
        "gamma_skip_init": skip,
        "gamma_residual_init": residual,
        "learnable": learnable,
        "gate_init": draw(st.sampled_from(["textbook", "open"])),
        "blocks": draw(st.sampled_from([None, (0,), (1,), (0, 1), ()])),
    }


@st.composite
def stage_pairs(draw):
    """Two spellings of a stage that differ in few fields, so that equal networks are common."""
    first, other = draw(stage_fields()), draw(stage_fields())
    names = draw(st.sets(st.sampled_from(["skip_attention", "reduction", "lambda_init", "gammas", "blocks", "rest"])))
    second = dict(first)
    if "gammas" in names and (not first["learnable"] or other["gamma_residual_init"]):
        second |= {k: other[k] for k in ("gamma_skip_init", "gamma_residual_init")}
    for name in names - {"gammas", "rest"}:
        second[name] = other[name]
    return first, (other if "rest" in names else second)


def build_as_spelled(arch):
    """The network of the fields as they are given, without the canonical form."""
    with mock.patch.object(models, "parse_fusion", return_value=arch.stages):
        return timm.create_model(f"fusion_{MICRO}", stem="small", num_classes=arch.num_classes)


def behaviour(model, x):
    """The shapes of a network's parameters and its output, all parameters but λ and γ random."""
    randomise(model)
    for parameter in model.parameters():
        if parameter.ndim == 0:
            parameter.data.mul_(0.5).add_(0.25)  # λ = 0 and λ = 1 would hide the attention
    return [(n, tuple(p.shape)) for n, p in model.named_parameters()], model.eval()(x)


@mock.patch.dict(BACKBONES, {MICRO: replace(BACKBONES[MICRO], layers=(2, 2, 2, 2))})
@settings(max_examples=60, deadline=None)
@given(pair=stage_pairs(), stage=st.integers(0, 3))
def test_equal_digests_mean_equal_networks_and_only_they(pair, stage):
    first, second = (
        architecture(*(StageFusion(**fields) if i == stage else StageFusion() for i in range(4))) for fields in pair
    )
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        spelled, other = behaviour(build_as_spelled(first), x), behaviour(build_as_spelled(second), x)
        canonical = behaviour(build_model(first), x)
    assert spelled[0] == canonical[0]
    assert torch.equal(spelled[1], canonical[1])
    same = spelled[0] == other[0] and torch.equal(spelled[1], other[1])
    assert same == (first.digest == second.digest)


def test_backbone_accepts_the_registered_name():
    assert Backbone(name="fusion_resnet18") == Backbone(name="resnet18")
