"""Parameter groups, learning rate, and one step against plain PyTorch."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score, recall_score, top_k_accuracy_score
from torch import nn

from nas.architecture import Architecture, Backbone, StageFusion
from nas.fusion.models import build_model
from nas.training.config import TrainingConfig
from nas.training.module import CandidateModule, learning_rate, parameter_groups


def test_norms_biases_lambda_and_gamma_do_not_decay():
    fused = Architecture(
        backbone=Backbone(name="resnet_micro", stem="small"),
        num_classes=10,
        in_chans=1,
        stages=(
            StageFusion(pattern="p1", attention="se", learnable=True, lambda_init=0.5),
            StageFusion(pattern="p2", attention="eca", learnable=True, lambda_init=0.1),
            StageFusion(pattern="p3", attention="cbam"),
            StageFusion(pattern="p4", attention="cbam", learnable=True),
        ),
    )
    model = build_model(fused)
    decayed, others = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    kernels = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    assert {id(p) for p in decayed["params"]} == {id(m.weight) for m in kernels}
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))
    assert any(p.ndim == 0 or p.numel() == 1 for p in others["params"]), "λ and γ are among them"


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    groups = parameter_groups(model, 0.1)
    assert [p.shape for group in groups for p in group["params"]] == [(2, 3), (2,)]


def test_the_cosine_schedule_warms_up_peaks_and_ends_near_zero():
    config = TrainingConfig(epochs=5, warmup_epochs=1, learning_rate=0.4)
    rates = [learning_rate(step, steps_per_epoch=10, config=config) for step in range(50)]
    assert rates[:10] == pytest.approx([0.04 * (i + 1) for i in range(10)])
    assert rates[10:] == pytest.approx([0.2 * (1 + math.cos(math.pi * i / 40)) for i in range(40)])
    assert max(rates) == 0.4
    assert 0 < rates[-1] < 0.002


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 1.0), (2, 7.0), (1, 0.0)])
def test_the_warm_up_takes_half_the_run_at_most(epochs, warmup):
    config = TrainingConfig(epochs=epochs, warmup_epochs=warmup, learning_rate=1.0, schedule="constant")
    rates = [learning_rate(step, steps_per_epoch=8, config=config) for step in range(8 * epochs)]
    assert rates[4 * epochs - 1 :] == [1.0] * (4 * epochs + 1)
    assert (rates[0] < 1) == (warmup > 0)


def test_a_run_equals_a_plain_loop_in_pytorch(digits, micro):
    """Losses, norms and validation of `train` against the textbook loop, step by step."""
    from nas.fusion.models import open_branches
    from nas.training.run import train

    config = TrainingConfig(
        epochs=2, device="cpu", threads=1, channels_last=False, clip_grad_norm=1.0, label_smoothing=0.1
    )
    measured = train(micro, digits, config, seed=4)

    torch.manual_seed(4)
    model = build_model(micro)
    open_branches(model)
    optimizer = torch.optim.SGD(parameter_groups(model, 5e-4), lr=1.0, momentum=0.9, nesterov=True)
    cpu = torch.device("cpu")
    batches = digits.train_batches(batch_size=64, seed=4, on=cpu)
    step = 0
    for record in measured.epochs:
        batches.set_epoch(record.epoch)
        losses, norms = [], []
        model.train()
        for x, y in batches:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps_per_epoch=len(batches), config=config)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
            loss.backward()
            norms.append(torch.sqrt(sum((p.grad.double() ** 2).sum() for p in model.parameters())).item())
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            step += 1
        model.eval()
        with torch.no_grad():
            logits, labels = zip(*((model(x), y) for x, y in digits.val_batches(batch_size=64, on=cpu)), strict=True)
        logits, labels = torch.cat(logits), torch.cat(labels)
        assert record.train_loss == pytest.approx(sum(losses) / len(losses), rel=1e-4)
        assert record.grad_norm == pytest.approx(sorted(norms)[1:3][0] / 2 + sorted(norms)[1:3][1] / 2, rel=1e-4)
        assert record.val_loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-3)
        assert record.val_accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item(), abs=1e-9)
        assert record.learning_rate == optimizer.param_groups[0]["lr"]


def test_validation_against_scikit_learn():
    """Unbalanced labels, one class that never occurs and one that is never predicted, in batches of several sizes."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 7, (90,), generator=generator) ** 2 // 6
    logits = torch.randn(90, 8, generator=generator) + 2 * F.one_hot(labels, 8)
    logits[:, 4] -= 100
    module = CandidateModule(nn.Identity(), TrainingConfig(channels_last=False), steps_per_epoch=1)
    module.on_validation_epoch_start()
    for i, part in enumerate(torch.arange(90).split(40)):
        module.validation_step((logits[part], labels[part]), i)
    predicted = logits.argmax(1)
    assert {4, 7} - set(predicted.tolist()) == {4}
    assert module.validation_result() == pytest.approx(
        {
            "val_loss": F.cross_entropy(logits, labels).item(),
            "val_accuracy": (predicted == labels).double().mean().item(),
            "val_top5": top_k_accuracy_score(labels, logits, k=5, labels=np.arange(8)),
            "val_macro_f1": f1_score(labels, predicted, average="macro"),
            "val_balanced_accuracy": recall_score(labels, predicted, labels=np.unique(labels), average="macro"),
        }
    )
