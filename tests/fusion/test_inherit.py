import pytest
import timm
import torch
from safetensors.torch import save_file

from nas.architecture import ATTENTIONS
from nas.errors import UserError
from nas.fusion import inherit as module
from nas.fusion.blocks import FusedBlock
from nas.fusion.inherit import inherit, load_plain
from tests.fusion.reference import randomise


def fused(stage, name="resnet10t", **more):
    return timm.create_model(f"fusion_{name}", fusion=[stage] * 4, **{"num_classes": 10, **more})


@pytest.fixture(scope="module")
def plain():
    model = timm.create_model("resnet10t", num_classes=10).eval()
    randomise(model)
    return model


NEUTRAL = [
    *(
        {"pattern": p, "attention": a, "lambda_init": 0.0, "learnable": True}
        for p in ("p1", "p2", "p3")
        for a in ATTENTIONS
    ),
    *({"pattern": p, "attention": a, "gate_init": "open"} for p in ("p1", "p2", "p3") for a in ATTENTIONS),
    *({"pattern": "p4", "attention": a, "gamma_skip_init": 0.05} for a in ATTENTIONS),
]


@pytest.mark.parametrize("stage", NEUTRAL, ids=lambda s: "-".join(str(v) for v in s.values()))
def test_a_candidate_that_starts_plain_computes_what_the_plain_network_did(plain, stage):
    model = fused(stage).eval()
    inherit(model, plain.state_dict())
    for block in (m for m in model.modules() if isinstance(m, FusedBlock) and stage["pattern"] == "p4"):
        block.fixed_gamma_skip = block.fixed_gamma_residual = 0.0
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), plain(x))


@pytest.mark.parametrize("stage", [*NEUTRAL[:1], *NEUTRAL[13:14], NEUTRAL[5] | {"blocks": [1]}])
def test_bottlenecks_inherit_too(stage):
    plain = timm.create_model("resnet26", num_classes=4).eval()
    randomise(plain)
    model = fused(stage, "resnet26", num_classes=4).eval()
    inherit(model, plain.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(model(x), plain(x))


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_files(plain, tmp_path, ending, wrapped):
    path = tmp_path / f"plain.{ending}"
    state = plain.state_dict()
    if ending == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}} if wrapped else state, path)
    loaded = load_plain(path)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_timms_weights_by_name(plain, monkeypatch):
    asked = []

    def create_model(name, **arguments):
        asked.append((name, arguments))
        return plain

    monkeypatch.setattr(module, "create_model", create_model)
    assert load_plain("timm:resnet10t.c3_in1k", in_chans=1).keys() == plain.state_dict().keys()
    assert asked == [("resnet10t.c3_in1k", {"pretrained": True, "in_chans": 1})]


@pytest.mark.parametrize("name", ["resnet10t.nowhere", "vgg99"])
def test_timms_weights_that_do_not_exist(name):
    with pytest.raises(UserError, match=f"^timm:{name}: no such weights, but: "):
        load_plain(f"timm:{name}")


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        load_plain(tmp_path / "none.pth")
    for name, content in (("a.pth", b"not a checkpoint"), ("b.safetensors", b"\x40\0\0\0\0\0\0\0{"), ("c.pth", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: expected a checkpoint of tensors, but: .+"):
            load_plain(tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "d.pth")
    with pytest.raises(UserError, match=r"d\.pth: expected a state dict"):
        load_plain(tmp_path / "d.pth")
    torch.save([torch.zeros(1)], tmp_path / "e.pth")
    with pytest.raises(UserError, match=r"e\.pth: expected"):
        load_plain(tmp_path / "e.pth")


def test_a_truncated_file(plain, tmp_path):
    path = tmp_path / "cut.safetensors"
    save_file(plain.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cut\.safetensors: expected a checkpoint"):
        load_plain(path)


STAGE = {"pattern": "p2", "attention": "cbam", "lambda_init": 0.1, "learnable": True}


def unchanged(model, action, message):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        action()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("num_classes", [10, 3])
def test_keys_must_match_whatever_the_classes(plain, num_classes):
    model, state = fused(STAGE, num_classes=num_classes), plain.state_dict()
    lacking = {k: v for k, v in state.items() if not k.startswith("layer4")}
    unchanged(
        model, lambda: inherit(model, lacking, "w.pth"), r"w\.pth: lacks layer4\.0\.conv1\.weight and \d+ more keys"
    )
    foreign = state | {"layer1.0.se.fc1.weight": torch.zeros(1)}
    unchanged(model, lambda: inherit(model, foreign), r"weights: holds layer1\.0\.se\.fc1\.weight, which the plain")
    without_bias = {k: v for k, v in state.items() if k != "fc.bias"}
    unchanged(model, lambda: inherit(model, without_bias), r"lacks fc\.bias of")
    wide = state | {"layer1.0.conv1.weight": torch.zeros(64, 64, 5, 5)}
    expected = r"layer1\.0\.conv1\.weight has the shape \(64, 64, 5, 5\), the model needs \(64, 64, 3, 3\)"
    unchanged(model, lambda: inherit(model, wide), expected)
    narrow = state | {"fc.weight": torch.zeros(10, 64)}
    unchanged(model, lambda: inherit(model, narrow), r"fc\.weight has the shape")


def test_another_number_of_classes_keeps_the_models_own_classifier(plain):
    model = fused(STAGE, num_classes=3)
    own = model.fc.weight.clone()
    inherit(model, plain.state_dict())
    assert torch.equal(model.fc.weight, own)
    assert torch.equal(model.layer4[0].bn2.weight, plain.layer4[0].bn2.weight)
    assert model.layer4[0].lam.item() == pytest.approx(0.1)


def test_other_networks_are_refused(plain):
    with pytest.raises(UserError, match="batch norm, the model has norm: group"):
        inherit(fused(STAGE, norm="group"), plain.state_dict())
    with pytest.raises(
        UserError, match=r"conv1\.0\.weight has the shape \(24, 3, 3, 3\), the model needs \(24, 1, 3, 3\)"
    ):
        inherit(fused(STAGE, in_chans=1), plain.state_dict())
    with pytest.raises(UserError, match=r"lacks conv1\.weight"):
        inherit(fused(STAGE, "resnet18"), plain.state_dict())


def test_timms_own_way_refuses_foreign_keys(plain):
    foreign = {**plain.state_dict(), "layer1.7.conv1.weight": torch.zeros(1)}
    overlay = {"state_dict": foreign, "hf_hub_id": None, "url": None}
    with pytest.raises(UserError, match=r"holds layer1\.7\.conv1\.weight, which this model does not have"):
        timm.create_model("fusion_resnet10t", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=3)
