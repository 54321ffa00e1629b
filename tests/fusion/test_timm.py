"""What timm's own tests ask of every model, asked of every pattern × attention × block type.

Each network carries p1 to p4 in its four stages, so that four attentions × two block types make all combinations;
whether strengths are learned alternates, and the stages turn with the attention, so that patterns meet all widths.
"""

import copy

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nas.architecture import ATTENTIONS
from nas.fusion.blocks import FusedBlock
from tests.fusion.reference import randomise

BACKBONES = ("resnet_micro", "resnet14t")
NUM_CLASSES = 5
SIZE = 32


def fusion(attention):
    """p1 to p4, turned by the number of the attention."""
    stages = [
        {"pattern": "p1", "attention": attention, "lambda_init": 0.5},
        {"pattern": "p2", "attention": attention, "lambda_init": 0.1, "learnable": True},
        {"pattern": "p3", "attention": attention, "gate_init": "open"},
        {"pattern": "p4", "attention": attention, "skip_attention": "se", "gamma_skip_init": 0.05, "learnable": True},
    ]
    turn = ATTENTIONS.index(attention)
    return stages[turn:] + stages[:turn]


def create(backbone, attention, **more):
    options = {"num_classes": NUM_CLASSES, **more}
    return timm.create_model(f"fusion_{backbone}", fusion=fusion(attention), **options)


@pytest.fixture(scope="module", params=[(b, a) for b in BACKBONES for a in ATTENTIONS], ids="-".join)
def case(request):
    """Backbone and attention."""
    return request.param


@pytest.fixture(scope="module")
def shared(case):
    """One network of a case in evaluation mode with random weights; tests leave it as it is."""
    torch.manual_seed(0)
    model = create(*case).eval()
    randomise(model)
    return model


@pytest.fixture
def model(shared):
    """A copy that a test may change."""
    return copy.deepcopy(shared)


@pytest.fixture
def images():
    return torch.randn(2, 3, SIZE, SIZE)


def on_meta(case, **more):
    """A network that computes shapes alone, and its input."""
    return create(*case, device="meta", **more), torch.empty(2, more.get("in_chans", 3), 64, 64, device="meta")


def test_all_patterns_and_block_types_are_here(shared, case):
    blocks = [m for m in shared.modules() if isinstance(m, FusedBlock)]
    assert {b.fusion.pattern for b in blocks} == {"p1", "p2", "p3", "p4"}
    assert {b.expansion for b in blocks} == {1 if case[0] == "resnet_micro" else 4}


def test_forward(shared, images):
    with torch.no_grad():
        out = shared(images)
        features = shared.forward_features(images)
        pooled = shared.forward_head(features, pre_logits=True)
    assert out.shape == (2, NUM_CLASSES)
    assert torch.isfinite(out).all()
    assert features.shape[:2] == (2, shared.num_features)
    assert pooled.shape == (2, shared.head_hidden_size)
    torch.testing.assert_close(shared.get_classifier()(pooled), out)


def test_backward(model, images):
    model.train()(images).square().mean().backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert lacking == []
    assert sum(p.grad.abs().sum() for p in model.parameters()) > 0


def test_default_cfg(shared):
    cfg, names = shared.pretrained_cfg, set(dict(shared.named_modules()))
    assert cfg["classifier"] == "fc"
    assert {cfg["classifier"], cfg["first_conv"]} <= names | {"conv1"}
    assert cfg["architecture"].startswith("fusion_")
    assert shared.default_cfg is cfg


def test_classifier_can_be_reset(case):
    model, x = on_meta(case)
    model.reset_classifier(7)
    assert model(x).shape == (2, 7)
    model.reset_classifier(0)
    assert model(x).shape == (2, model.num_features)
    assert isinstance(model.get_classifier(), nn.Identity)
    model.reset_classifier(0, "")
    assert model(x).ndim == 4
    model.reset_classifier(3, "max")
    assert model(x).shape == (2, 3)


@pytest.mark.parametrize(("pool", "dimensions"), [("avg", 2), ("max", 2), ("avgmax", 2), ("", 4)])
def test_without_classifier(case, pool, dimensions):
    model, x = on_meta(case, num_classes=0, global_pool=pool)
    assert model(x).ndim == dimensions
    assert model(x).shape[1] == model.num_features


@pytest.mark.parametrize("in_chans", [1, 5])
def test_input_channels(case, in_chans):
    model, x = on_meta(case, in_chans=in_chans)
    assert model(x).shape == (2, NUM_CLASSES)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_stride(case, stride):
    model, x = on_meta(case, output_stride=stride)
    stem = 1 if case[0] == "resnet_micro" else 4  # timm counts a small stem as if it had stride 4
    assert model.forward_features(x).shape[2] == 64 * 4 // stem // stride


@pytest.mark.parametrize("out_indices", [None, (1, 3), (-1,)])
def test_features_only(case, out_indices):
    more = {} if out_indices is None else {"out_indices": out_indices}
    model, x = on_meta(case, features_only=True, **more)
    outputs = model(x)
    assert len(outputs) == (5 if out_indices is None else len(out_indices))
    expected = zip(model.feature_info.channels(), model.feature_info.reduction(), strict=True)
    assert [tuple(o.shape[1:]) for o in outputs] == [(c, 64 // r, 64 // r) for c, r in expected]


def test_features_by_hooks_and_by_fx(case, images):
    features = []
    for kind in ("list", "hook", "fx"):
        network = create(*case, features_only=True, feature_cls=kind, out_indices=(2, 4)).eval()
        randomise(network)
        features.append(network(images))
    # A list net stops before what it does not need, so that the order of its weights is another: shapes only.
    assert [f.shape for f in features[0]] == [f.shape for f in features[1]] == [f.shape for f in features[2]]


def test_forward_intermediates(shared, images):
    with torch.no_grad():
        final, all_of_them = shared.forward_intermediates(images)
        torch.testing.assert_close(final, shared.forward_features(images))
        assert torch.equal(all_of_them[-1], final)
        reductions = [info["reduction"] for info in shared.feature_info]
        assert [SIZE // f.shape[2] for f in all_of_them] == reductions
        last_two = shared.forward_intermediates(images, indices=2, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(last_two, all_of_them[-2:], strict=True))


def test_intermediate_layers_can_be_pruned(case):
    model, x = on_meta(case)
    model.prune_intermediate_layers([2], prune_head=True)
    assert len(model.layer3) == 0
    assert model.forward_intermediates(x, indices=[2], intermediates_only=True)[0].shape[0] == 2


def test_fx_trace(shared, images):
    with torch.no_grad():
        assert torch.equal(torch.fx.symbolic_trace(shared)(images), shared(images))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript(shared, images):
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(shared)(images), shared(images))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_torchscript_trains(attention):
    model = create("resnet_micro", attention).train()
    script = torch.jit.script(copy.deepcopy(model))
    x = torch.randn(4, 3, 16, 16)
    model(x).square().mean().backward()
    script(x).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in script.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_export(shared, images):
    with torch.no_grad():
        batch = torch.export.Dim("batch", min=1, max=64)
        exported = torch.export.export(shared, (images,), dynamic_shapes=({0: batch},))
        more = torch.cat([images, images[:1]])
        torch.testing.assert_close(exported.module()(more), shared(more))


def test_gradient_checkpointing(model, images):
    twin = copy.deepcopy(model)
    twin.set_grad_checkpointing()
    plain, checkpointed = model.train()(images), twin.train()(images)
    assert torch.equal(plain, checkpointed)
    plain.square().mean().backward()
    checkpointed.square().mean().backward()
    pairs = zip(model.named_parameters(), twin.parameters(), strict=True)
    assert [n for (n, a), b in pairs if not torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-6)] == []


@pytest.mark.parametrize("coarse", [False, True])
def test_group_matcher(shared, coarse):
    groups = group_parameters(shared, shared.group_matcher(coarse=coarse))
    assert sorted(n for names in groups.values() for n in names) == sorted(n for n, _ in shared.named_parameters())
    layer_of = {name: layer for layer, names in groups.items() for name in names}
    for name, layer in layer_of.items():
        if name.startswith("layer"):  # attention, λ and γ go with the convolutions of their block
            assert layer == layer_of[".".join([*name.split(".")[:2], "conv1", "weight"])]


def test_layer_decay(shared):
    groups = param_groups_layer_decay(shared, weight_decay=0.05, layer_decay=0.75)
    assert sum(len(group["params"]) for group in groups) == len(list(shared.parameters()))
    undecayed = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert all(id(p) in undecayed for p in shared.parameters() if p.ndim <= 1)


def test_ema(model):
    ema = ModelEmaV3(model, decay=0.9)
    before = {key: value.clone() for key, value in ema.module.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    ema.update(model)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ema.module.state_dict()[name], 0.9 * before[name] + 0.1 * parameter.detach())


@pytest.fixture(scope="module")
def process_group():
    """One process that is a group by itself."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides:UserWarning")
def test_ddp(model, images, process_group):
    twin = copy.deepcopy(model).train()
    wrapped = DistributedDataParallel(model.train())  # raises where a parameter takes no part
    for _ in range(2):
        wrapped.zero_grad()
        wrapped(images).square().mean().backward()
    twin(images)
    twin(images).square().mean().backward()
    pairs = zip(model.named_parameters(), twin.parameters(), strict=True)
    assert [n for (n, a), b in pairs if not torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-6)] == []


def test_channels_last(model, shared, images):
    model.to(memory_format=torch.channels_last)
    last = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(model(last), shared(images), rtol=1e-3, atol=1e-4)
        assert model.forward_features(last).is_contiguous(memory_format=torch.channels_last)
    model.train()(last).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_channels_last_trains_the_same(case):
    torch.manual_seed(2)
    model = create(*case, dtype=torch.float64).train()
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    model(x).square().mean().backward()
    twin(x.contiguous(memory_format=torch.channels_last)).square().mean().backward()
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_autocast(model, images):
    with torch.autocast("cpu", torch.bfloat16):
        out = model.train()(images)
    assert out.dtype == torch.bfloat16
    out.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype(case, dtype):
    model, _ = on_meta(case, dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert model(torch.empty(2, 3, 64, 64, device="meta", dtype=dtype)).dtype == dtype


def test_drop_path(case):
    model, _ = on_meta(case, drop_path_rate=0.3)
    rates = [getattr(model, f"layer{i}")[0].drop_path for i in (1, 2, 3, 4)]
    assert [rate.drop_prob if rate is not None else 0 for rate in rates] == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_dropped_path_leaves_the_skip(attention):
    """With every branch dropped, p1 and p3 give the skip; p2 and p4 still attend to it."""
    model = create("resnet_micro", attention, drop_path_rate=0.1)
    for block in (m for m in model.train().modules() if isinstance(m, FusedBlock)):
        block.drop_path = nn.Module()
        block.drop_path.forward = torch.zeros_like
        x = torch.randn(4, block.conv1.in_channels, 8, 8)
        with torch.no_grad():
            skip = (x if block.downsample is None else block.downsample(x)).relu()
            assert torch.allclose(block(x), skip, atol=1e-6) == (block.fusion.pattern in ("p1", "p3"))


def test_state_dict_comes_back(shared, case, images):
    other = create(*case).eval()
    other.load_state_dict(shared.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(other(images), shared(images))


def test_compile_without_graph_breaks():
    """All patterns with cbam, whose backward passes are our own; generated code would take a minute to compile."""
    model = create("resnet_micro", "cbam").train()
    twin = copy.deepcopy(model)
    x = torch.randn(2, 3, 16, 16)
    torch.compile(model, backend="aot_eager", fullgraph=True)(x).square().mean().backward()
    twin(x).square().mean().backward()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)
