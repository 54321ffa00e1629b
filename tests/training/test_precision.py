"""Half precision: what overflows it, and what looks for its scale."""

import math

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from nas.architecture import Architecture, Backbone
from nas.measurement import Outcome
from nas.training import fit, pace, run
from nas.training.config import TrainingConfig
from nas.training.device import on_device
from nas.training.module import CandidateModule
from nas.training.run import train

HALF = TrainingConfig(precision="16-mixed", epochs=2, threads=1, device="cpu", channels_last=False)
PLAIN = Architecture.plain(Backbone(name="resnet_micro", stem="small"), num_classes=10, in_chans=1)


class Loud(nn.Module):
    """A linear classifier of 8 × 8 images, whose logits are far beyond float16 where it is evaluated."""

    def __init__(self, factor: float = 1e6) -> None:
        super().__init__()
        self.fc, self.loud = nn.Linear(64, 10), nn.Linear(10, 10, bias=False)
        with torch.no_grad():
            self.loud.weight.copy_(factor * torch.eye(10)).requires_grad_(False)

    def forward(self, x):
        logits = self.fc(x.flatten(1))
        return logits if self.training else self.loud(logits)


@pytest.fixture
def float16(monkeypatch):
    """A CPU that trains in float16 as a GPU does, from a scale of one's own."""

    def from_scale(scale: float) -> None:
        def trainer(*, precision: str, plugins: list[object], **more: object) -> L.Trainer:
            scaler = torch.amp.GradScaler("cpu", init_scale=scale)
            return L.Trainer(plugins=[*plugins, MixedPrecision(precision, "cpu", scaler)], **more)

        class Lightning:
            Trainer = staticmethod(trainer)

        monkeypatch.setattr(fit, "L", Lightning)
        monkeypatch.setattr(run, "on_device", lambda config, device: config)

    return from_scale


@pytest.fixture
def loud(monkeypatch):
    monkeypatch.setattr(run, "build_model", lambda _: Loud())
    monkeypatch.setattr(run, "count_macs", lambda *_: 640)


def scores(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    module = CandidateModule(model.eval(), HALF, steps_per_epoch=1)
    module.on_validation_epoch_start()
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        module.validation_step((images, labels), 0)
    return module.validation_result()["val_loss"]


def test_what_overflows_half_precision_is_scored_in_float32():
    torch.manual_seed(0)
    images, labels, model = torch.randn(20, 64), torch.arange(20) % 10, Loud()
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        assert not model.eval()(images).isfinite().all()
    with torch.no_grad():
        expected = F.cross_entropy(model(images), labels).item()
    assert scores(model, images, labels) == pytest.approx(expected, rel=1e-5)


def test_what_overflows_float32_too_is_not_finite():
    assert not math.isfinite(scores(Loud(math.inf), torch.randn(20, 64), torch.arange(20) % 10))


def test_logits_beyond_half_precision_end_no_run(float16, loud, micro, digits):
    float16(2.0**10)
    measured = train(micro, digits, HALF, seed=0)
    assert measured.outcome is Outcome.COMPLETE
    assert all(math.isfinite(epoch.val_loss) for epoch in measured.epochs)


def test_an_epoch_of_skipped_steps_is_named_and_goes_on(float16, micro, digits):
    """200 images are 4 steps an epoch; 2²⁴ has to fall for at least one of them before gradients fit."""
    float16(2.0**24)
    measured = train(micro, digits, HALF.model_copy(update={"epochs": 6}), seed=0)
    assert measured.outcome is Outcome.COMPLETE
    skipped = [epoch.epoch for epoch in measured.epochs if epoch.grad_norm == math.inf]
    assert [event.epoch for event in measured.events] == skipped
    assert skipped[0] == 0
    assert skipped[-1] < 5
    assert measured.events[0].signal == "skipped-epoch"
    assert measured.events[0].message == (
        "step 3: fp16's loss scaler, which looks for its scale, skipped all 4 steps of the epoch"
    )


def test_a_cpu_takes_bfloat16_for_float16(micro, digits, brief):
    """And says nothing: lightning would warn in every trial."""
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert on_device(HALF, cpu).precision == "bf16-mixed"
    assert on_device(HALF, gpu) is HALF
    half, brain = (
        train(micro, digits, brief.model_copy(update={"precision": p}), seed=0) for p in ("16-mixed", "bf16-mixed")
    )
    assert half.score == brain.score


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)],
)
def test_the_pace_is_that_of_the_precision_and_layout(monkeypatch, digits, precision, dtype):
    channels_last = precision != "16-mixed"
    seen = set()

    class Noted(nn.Conv2d):
        def forward(self, x):
            result = super().forward(x)
            seen.add((self.training, result.dtype, self.weight.is_contiguous()))
            return result

    network = nn.Sequential(nn.Conv2d(1, 2, 1), Noted(2, 10, 8), nn.Flatten())
    monkeypatch.setattr(pace, "build_model", lambda _: network)
    monkeypatch.setattr(pace, "on_device", lambda config, device: config)
    config = TrainingConfig(precision=precision, channels_last=channels_last, device="cpu")
    pace.measure_pace(PLAIN, digits, config, limit_s=0.0)
    assert seen == {(training, dtype, not channels_last) for training in (True, False)}
