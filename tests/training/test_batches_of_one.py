"""Batches of one image under batch and group norm, and group norm in both memory layouts."""

import pytest
import torch

from nas.architecture import ATTENTIONS, PATTERNS, Architecture, Backbone, StageFusion
from nas.errors import UserError
from nas.fusion.models import build_model
from nas.measurement import Outcome
from nas.study.config import StudyConfig
from nas.study.launch.checks import open_checked
from nas.training.config import DataConfig, GuardConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.run import train

MICRO = Backbone(name="resnet_micro", stem="small")
FUSIONS = [StageFusion()] + [StageFusion(pattern=p, attention=a) for p in PATTERNS if p != "none" for a in ATTENTIONS]


def network(fusion: StageFusion, norm: str = "batch") -> Architecture:
    return Architecture(backbone=MICRO, num_classes=10, in_chans=1, norm=norm, stages=(fusion,) * 4)


def study(tmp_path, norm="batch", **more) -> StudyConfig:
    (tmp_path / "space.yaml").write_text(f"schema: 1\nextends: patterns\nnorm: [{norm}]\n")
    return StudyConfig.parse({"schema": 1, "name": "one", "space": str(tmp_path / "space.yaml"), **more}, "here")


@pytest.mark.parametrize(("batch_size", "num_train"), [(1, 40), (2, 41)])
def test_single_values_are_refused_before_the_study_exists(tmp_path, batch_size, num_train):
    config = study(tmp_path, data={"num_train": num_train}, training={"batch_size": batch_size})
    said = rf"training\.batch_size: {batch_size} cuts {num_train} training images into .* one value a channel"
    with pytest.raises(UserError, match=said):
        open_checked(config)


@pytest.mark.parametrize(
    ("norm", "data", "batch_size"),
    [
        ("group", {"num_train": 40}, 1),
        ("batch", {"num_train": 40}, 2),
        ("batch", {"num_train": 41}, 3),
        ("batch", {"num_train": 40, "image_size": 16}, 1),
    ],
)
def test_what_trains_is_not_refused(tmp_path, norm, data, batch_size):
    config = study(tmp_path, norm, data=data, training={"batch_size": batch_size, "epochs": 1, "device": "cpu"})
    opened, space = open_checked(config)
    plain = network(StageFusion(), norm)
    assert plain in space
    assert train(plain, opened, config.training, seed=0, guard=GuardConfig.off()).outcome is Outcome.COMPLETE


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
@pytest.mark.parametrize(("norm", "side"), [("group", 8), ("batch", 16)])
def test_every_fusion_takes_one_image(fusion, norm, side):
    torch.manual_seed(0)
    model = build_model(network(fusion, norm)).train()
    loss = model(torch.randn(1, 1, side, side)).square().sum()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_group_norm_gives_the_same_in_both_layouts(fusion):
    torch.manual_seed(0)
    model = build_model(network(fusion, "group"))
    images = torch.randn(4, 1, 16, 16)
    expected = model(images)
    expected.square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model = model.to(memory_format=torch.channels_last)
    logits = model(images.contiguous(memory_format=torch.channels_last))
    logits.square().sum().backward()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-3)


def test_group_norm_learns_in_batches_of_one_channels_last():
    config = TrainingConfig(epochs=3, batch_size=1, learning_rate=0.01, device="cpu", threads=1)
    data = open_data(DataConfig(num_train=300))
    assert train(network(StageFusion(), "group"), data, config, seed=0).score > 0.5
