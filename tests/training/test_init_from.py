"""Every candidate can start from the weights of the plain network."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from nas.architecture import Architecture, Backbone
from nas.errors import UserError
from nas.training.config import DataConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.run import train

STAGE = {"pattern": "p2", "attention": "se", "gate_init": "open"}


@pytest.fixture(scope="module")
def digits():
    return open_data(DataConfig(num_train=64))


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(5)
    path = tmp_path / "plain.safetensors"
    save_file(timm.create_model("fusion_resnet_micro", num_classes=10, in_chans=1).state_dict(), path)
    return path


def run(digits, pattern, init_from, seed=0):
    stages = [STAGE if pattern else {"pattern": "none"}] * 4
    backbone = Backbone(name="resnet_micro", stem="small")
    arch = Architecture(backbone=backbone, num_classes=10, in_chans=1, stages=stages)
    init = None if init_from is None else str(init_from)
    config = TrainingConfig(
        epochs=1, batch_size=64, learning_rate=1e-9, warmup_epochs=0, device="cpu", threads=1, init_from=init
    )
    return train(arch, digits, config, seed=seed)


def test_open_gates_start_at_the_function_of_the_plain_weights(digits, weights):
    plain, fused = run(digits, False, weights), run(digits, True, weights, seed=0)
    assert fused.epochs[0].train_loss == pytest.approx(plain.epochs[0].train_loss, rel=1e-6)
    fresh = run(digits, True, None)
    assert fresh.epochs[0].train_loss != pytest.approx(plain.epochs[0].train_loss, rel=1e-3)


def test_weights_that_do_not_fit_stop_before_training(digits, weights, tmp_path):
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        run(digits, True, tmp_path / "none.pth")
    other = tmp_path / "other.safetensors"
    save_file(timm.create_model("resnet10t", num_classes=10, in_chans=1).state_dict(), other)
    with pytest.raises(UserError, match=r"other\.safetensors: lacks conv1\.weight and 12 more keys of the plain"):
        run(digits, True, other)
