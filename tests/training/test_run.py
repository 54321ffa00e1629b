"""`train` as its callers see it."""

import os
import random
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nas.architecture import Architecture, Backbone
from nas.errors import UserError
from nas.measurement import Interrupted, Outcome
from nas.training import fit, run
from nas.training.config import DataConfig, GuardConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.run import train


def scores(measurement):
    """Everything but the times."""
    return [replace(epoch, train_s=0, val_s=0) for epoch in measurement.epochs]


@pytest.fixture(scope="module")
def measured(micro, digits, brief):
    return train(micro, digits, brief, seed=3)


def test_a_measurement_is_complete(measured):
    assert measured.outcome is Outcome.COMPLETE
    assert (measured.seed, measured.budget, measured.reason, measured.events) == (3, 2, None, ())
    assert measured.num_params > 300_000
    assert measured.macs > 900_000
    assert [epoch.epoch for epoch in measured.epochs] == [0, 1]
    assert measured.score == measured.epochs[-1].val_accuracy
    assert 0 <= measured.score <= 1
    assert measured.wall_s > sum(epoch.train_s + epoch.val_s for epoch in measured.epochs) > 0
    assert all(epoch.grad_norm > 0 and epoch.train_s > epoch.val_s > 0 for epoch in measured.epochs)


def test_the_result_is_a_function_of_the_seed_alone(measured, micro, digits, brief):
    other = train(micro, digits, brief, seed=4)
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    assert scores(train(micro, digits, brief, seed=3)) == scores(measured)
    assert scores(other) != scores(measured)
    fresh = open_data(DataConfig(num_train=200))
    assert scores(train(micro, fresh, brief, seed=3)) == scores(measured)


def test_it_learns(micro):
    config = TrainingConfig(epochs=3, device="cpu", threads=1)
    assert train(micro, open_data(DataConfig()), config, seed=0).score > 0.9


@pytest.mark.parametrize(
    "more", [{"precision": "bf16-mixed"}, {"momentum": 0}, {"schedule": "constant"}, {"batch_size": 500}]
)
def test_options_train(micro, digits, brief, more):
    config = brief.model_copy(update={"epochs": 1, **more})
    assert train(micro, digits, config, seed=0).outcome is Outcome.COMPLETE


def test_image_files_train(image_folder):
    data = open_data(DataConfig(source=f"folder:{image_folder}", image_size=16))
    plain = Architecture.plain(Backbone(name="resnet_micro", stem="small"), num_classes=3)
    config = TrainingConfig(epochs=1, device="cpu", batch_size=16, threads=1)
    assert scores(train(plain, data, config, seed=0)) == scores(train(plain, data, config, seed=0))


def test_the_architecture_must_fit_the_data(digits, brief):
    colour = Architecture.plain(Backbone(name="resnet_micro", stem="small"), num_classes=10)
    with pytest.raises(UserError, match="in_chans: the architecture has 3, but digits needs 1"):
        train(colour, digits, brief, seed=0)


def test_a_device_that_is_not_there(micro, digits, brief):
    with pytest.raises(UserError, match=r"device: 'cuda:63' asked for, but this machine has (none|\d+) of that kind"):
        train(micro, digits, brief.model_copy(update={"device": "cuda:63"}), seed=0)


def test_the_caller_can_stop_after_an_epoch(measured, micro, digits, brief):
    seen = []
    stopped = train(micro, digits, brief, seed=3, on_epoch=lambda e: seen.append(e) or "median")
    assert (stopped.outcome, stopped.reason) == (Outcome.STOPPED, "median")
    assert scores(stopped) == scores(measured)[:1]
    assert tuple(seen) == stopped.epochs
    assert stopped.score == seen[0].val_accuracy


def test_branches_start_open_unless_zero_is_asked_for(measured, micro, digits, brief):
    closed = brief.model_copy(update={"zero_init_branches": True})
    assert scores(train(micro, digits, closed, seed=3)) != scores(measured)


# ── the guard ──


class Failing(nn.Module):
    """A linear classifier of 8 × 8 images that breaks in its n-th training step, in a chosen way."""

    def __init__(self, step: int, way: str) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.step, self.way, self.count = step, way, 0

    def forward(self, x):
        logits = self.fc(x.flatten(1))
        if not self.training:
            return logits if self.count <= self.step else -logits
        self.count += 1
        if self.count <= self.step:
            return logits
        if self.way == "nan":
            return logits * float("nan")
        if self.way == "spike":
            return logits - 201 * logits.detach()  # confidently wrong, with an ordinary gradient
        return logits + 1e4 * (logits - logits.detach())  # same loss, exploding gradient


@pytest.fixture
def failing(monkeypatch):
    def build(step, way):
        monkeypatch.setattr(run, "build_model", lambda _: Failing(step, way))
        monkeypatch.setattr(run, "count_macs", lambda *_: 640)

    return build


LONG = TrainingConfig(epochs=20, batch_size=50, device="cpu", threads=1, learning_rate=1e-3)


def test_what_is_not_finite_ends_a_run_at_its_step(failing, micro, digits):
    failing(30, "nan")
    broken = train(micro, digits, LONG, seed=0)
    assert (broken.outcome, broken.reason) == (Outcome.UNSTABLE, "non-finite")
    (event,) = broken.events
    assert (event.signal, event.step, event.epoch) == ("non-finite", 30, 7)
    assert [seen["step"] for seen in event.trace] == list(range(11, 31))
    assert len(broken.epochs) == 7
    assert broken.score == broken.epochs[-1].val_accuracy


def test_what_breaks_a_run_for_good_ends_it_after_a_third_of_its_steps(failing, micro, digits):
    """Four steps in each of twenty epochs; a spike is believed at its third step."""
    failing(30, "spike")
    broken = train(micro, digits, LONG, seed=0)
    assert (broken.outcome, broken.reason) == (Outcome.UNSTABLE, "loss-spike")
    (event,) = broken.events
    assert (event.signal, event.step) == ("loss-spike", 32)
    *steps, epoch = event.trace
    assert [seen["step"] for seen in steps] == list(range(13, 33))
    assert epoch["epoch"] == 15 - 1
    assert len(broken.epochs) == 15


def test_an_alarm_without_a_loss_is_told_and_no_more(failing, micro, digits):
    failing(30, "gradient")
    ended = train(micro, digits, LONG, seed=0)
    assert (ended.outcome, ended.reason) == (Outcome.COMPLETE, None)
    assert (ended.events[0].signal, ended.events[0].step) == ("gradient-explosion", 30)


@pytest.mark.parametrize("way", ["nan", "spike", "gradient"])
def test_the_same_network_unbroken_ends_well(failing, micro, digits, way):
    failing(10_000, way)
    assert train(micro, digits, LONG, seed=0).outcome is Outcome.COMPLETE


def test_a_run_that_breaks_in_its_first_epoch_has_no_score(failing, micro, digits, brief):
    failing(1, "nan")
    broken = train(micro, digits, brief, seed=0)
    assert (broken.outcome, broken.score, broken.epochs) == (Outcome.UNSTABLE, None, ())


def test_a_signal_that_is_off_lets_the_run_end(failing, micro, digits, brief):
    failing(1, "nan")
    ended = train(micro, digits, brief, seed=0, guard=GuardConfig.off())
    assert ended.outcome is Outcome.COMPLETE


def test_a_lagging_look_gives_the_same_event(failing, micro, digits, monkeypatch):
    """As on a GPU: looked at every few steps, the event still names the step where it happened."""
    failing(30, "spike")
    prompt = train(micro, digits, LONG, seed=0).events[0]
    monkeypatch.setattr(fit, "CPU_LAG", 16)
    failing(30, "spike")
    assert train(micro, digits, LONG, seed=0).events[0] == prompt


# ── interruption ──


@pytest.mark.parametrize("batches", [0, 3, 5])
def test_a_stop_request_is_heard_before_the_next_batch(micro, digits, brief, batches):
    """In training (4 batches) and in validation (2 batches)."""
    asked = []

    def should_stop():
        asked.append(time.perf_counter())
        return len(asked) > batches

    with pytest.raises(Interrupted):
        train(micro, digits, brief, seed=0, should_stop=should_stop)
    assert len(asked) == batches + 1
    assert time.perf_counter() - asked[-1] < 1


def test_ctrl_c_stays_a_keyboard_interrupt(micro, digits, brief):
    """Lightning alone would ignore further Ctrl-C and exit the process."""
    before = signal.getsignal(signal.SIGINT)

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(micro, digits, brief, seed=0, on_epoch=interrupt)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("own_handler", [True, False])
def test_sigterm_interrupts_and_reaches_the_workers_own_handler(micro, digits, brief, own_handler):
    heard = []
    before = signal.signal(signal.SIGTERM, (lambda *_: heard.append(1)) if own_handler else signal.SIG_DFL)
    try:
        with pytest.raises(Interrupted):
            train(micro, digits, brief, seed=0, on_epoch=lambda _: os.kill(os.getpid(), signal.SIGTERM))
        assert heard == [1] * own_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nothing_is_printed_or_logged(micro, digits, brief, capfd, caplog):
    train(micro, digits, brief.model_copy(update={"epochs": 1}), seed=0)
    out, err = capfd.readouterr()
    assert (out, err, caplog.records) == ("", "", [])
