"""The guard on tiny networks that are made to fail in one way each, and on ones that do not."""

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nas.architecture import Architecture, Backbone, StageFusion
from nas.errors import DataError
from nas.fusion.models import build_model, open_branches
from nas.measurement import Interrupted, Outcome
from nas.training import fit, run
from nas.training.config import DataConfig, GuardConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.guard import Guard
from nas.training.inspection import Inspector, is_watched
from nas.training.module import CandidateModule
from nas.training.run import train
from nas.training.signals.reading import EpochReading, Observation

MICRO = Backbone(name="resnet_micro", stem="small")
P1_SE = StageFusion(pattern="p1", attention="se")
P2_SE = StageFusion(pattern="p2", attention="se")
P2_CBAM = StageFusion(pattern="p2", attention="cbam", lambda_init=0.3)
P3_COORD = StageFusion(pattern="p3", attention="coord", gate_init="open")
P4 = StageFusion(pattern="p4", attention="cbam", gamma_skip_init=0.05, gamma_residual_init=0.5, learnable=True)
BRIEF = TrainingConfig(epochs=6, batch_size=50, device="cpu", threads=1)


def micro_with(*stages):
    return Architecture(
        backbone=MICRO, num_classes=10, in_chans=1, stages=(*stages, *[StageFusion()] * (4 - len(stages)))
    )


def readings(model, images):
    inspector = Inspector(model)
    inspector.watch()
    model(images)
    inspector.keep(7)
    ((step, rows),) = inspector.drain().items()
    assert step == 7
    return inspector.readings(rows, epoch=0, step=7)


# ── what is read ──


@pytest.mark.parametrize("channels_last", [False, True])
def test_readings_equal_what_the_formulas_say(channels_last):
    """Against the activations themselves, kept and computed in float64."""
    torch.manual_seed(0)
    model = build_model(micro_with(P1_SE, P2_CBAM, P3_COORD, P4)).train()
    open_branches(model)
    images = torch.randn(6, 1, 8, 8)
    if channels_last:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    kept = {}
    handles = [
        module.register_forward_hook(lambda _, i, o, n=name: kept.setdefault(n, []).append((i[0].clone(), o.clone())))
        for name, module in model.named_modules()
    ]
    found = readings(model, images)
    for handle in handles:
        handle.remove()

    def rms(t):
        return t.double().square().mean().sqrt().item()

    def mean(name):
        return math.prod(output.double().mean().item() for _, output in kept[name])

    def slope(name):
        return max((4 * o.double() * (1 - o.double())).mean().item() for _, o in kept[name])

    outputs = [rms(kept[f"layer{n}.0"][0][1]) for n in (1, 2, 3, 4)]
    assert [r.output_scale for r in found] == pytest.approx(outputs, rel=1e-5)
    first = rms(kept["layer1.0"][0][0])
    largest = [max([first, *outputs[:n]]) for n in range(4)]
    assert [r.trunk_ratio for r in found] == pytest.approx(
        [o / m for o, m in zip(outputs, largest, strict=True)], rel=1e-5
    )
    shortcuts = [first, *(rms(kept[f"layer{n}.0.downsample"][0][1]) for n in (2, 3, 4))]
    assert [r.shortcut_scale for r in found] == pytest.approx(shortcuts, rel=1e-5)

    se = mean("layer1.0.se.gate")
    cbam = mean("layer2.0.post.channel.gate") * mean("layer2.0.post.spatial.gate")
    residual = mean("layer4.0.residual_attention.channel.gate") * mean("layer4.0.residual_attention.spatial.gate")
    factors = [se, 1, 1, 1 + 0.5 * residual]
    branches = [f * rms(kept[f"layer{n}.0.bn2"][0][1]) for n, f in zip((1, 2, 3, 4), factors, strict=True)]
    assert [r.branch_scale for r in found] == pytest.approx(branches, rel=1e-4)
    skips = [None, 0.7 + 0.3 * cbam, None, 1 + 0.05 * mean("layer4.0.skip_attention.gate")]
    assert [r.skip_factor for r in found] == [s and pytest.approx(s, rel=1e-5) for s in skips]
    weights = [(p.detach().double().square().sum().item(), name) for name, p in model.named_parameters() if p.ndim > 1]
    norms = [math.sqrt(sum(w for w, name in weights if name.startswith(f"layer{n}."))) for n in (1, 2, 3, 4)]
    assert [r.weight_norm for r in found] == pytest.approx(norms, rel=1e-5)
    assert found[0].gate_slope == pytest.approx(slope("layer1.0.se.gate"), rel=1e-5)
    assert found[2].gate_slope == pytest.approx(1.0), "open gates start at their steepest point"
    assert [(r.stage, r.block, r.step) for r in found] == [(n, 0, 7) for n in (1, 2, 3, 4)]


def test_watching_leaves_nothing_behind():
    model = build_model(micro_with(P1_SE, P2_CBAM, P3_COORD, P4))
    readings(model, torch.randn(2, 1, 8, 8))
    assert not any(module._forward_hooks for module in model.modules())


def test_blocks_are_watched_more_often_at_the_beginning():
    assert [step for step in range(90) if is_watched(step)] == [*range(0, 50, 5), 50, 60, 70, 80]


def test_deep_blocks_are_named_as_timm_names_them():
    arch = Architecture.plain(Backbone(name="resnet26", stem="small"), num_classes=10, in_chans=1)
    places = [(r.stage, r.block) for r in readings(build_model(arch), torch.randn(2, 1, 8, 8))]
    assert places == [(stage, block) for stage in (1, 2, 3, 4) for block in (0, 1)]


def test_only_fused_blocks_have_masks_to_watch(deep_micro):
    stages = (P1_SE.model_copy(update={"blocks": (1,)}), StageFusion(), P2_SE.model_copy(update={"blocks": (0, 2)}))
    found = readings(build_model(micro_with(*stages)), torch.randn(2, 1, 8, 8))
    assert {(r.stage, r.block) for r in found if r.gate_slope is not None} == {(1, 1), (3, 0), (3, 2)}
    assert {(r.stage, r.block) for r in found if r.skip_factor is not None} == {(3, 0), (3, 2)}


def test_watching_changes_no_result(micro, digits, brief):
    watched, alone = (train(micro, digits, brief, seed=3, guard=g) for g in (GuardConfig(), GuardConfig.off()))
    assert [replace(e, train_s=0, val_s=0) for e in watched.epochs] == [
        replace(e, train_s=0, val_s=0) for e in alone.epochs
    ]


class Reads(TorchDispatchMode):
    """The training steps after which a value was read off a tensor: on a GPU each would wait for it."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.step, self.after = 0, []
        for name in ("tolist", "cpu", "numpy"):
            monkeypatch.setattr(torch.Tensor, name, self.counted(getattr(torch.Tensor, name)))
        monkeypatch.setattr(CandidateModule, "training_step", self.counted_step(CandidateModule.training_step))

    def counted(self, real):
        def read(tensor, *args, **kwargs):
            self.after.append(self.step)
            return real(tensor, *args, **kwargs)

        return read

    def counted_step(self, real):
        def step(module, batch, batch_idx):
            self.step += 1
            return real(module, batch, batch_idx)

        return step

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:  # item(), bool(), float()
            self.after.append(self.step)
        return func(*args, **(kwargs or {}))


def test_nothing_is_read_off_the_device_between_looks(digits, monkeypatch):
    """With the lag of a GPU: after the first step, every 16 steps, and at the end of an epoch of 40."""
    monkeypatch.setattr(fit, "CPU_LAG", fit.GPU_LAG)
    arch = micro_with(P1_SE, P2_CBAM, P3_COORD, P4)
    with Reads(monkeypatch) as reads:
        ended = train(arch, digits, BRIEF.model_copy(update={"batch_size": 5, "epochs": 2}), seed=0)
    assert ended.outcome is Outcome.COMPLETE
    reads_after = Counter(reads.after)
    assert sorted(reads_after) == [0, 1, 17, 33, 40, 56, 72, 80]
    assert [reads_after[step] for step in (1, 17, 33, 56, 72)] == [2] * 5, "the steps, and the blocks"


# ── networks made to fail ──


@pytest.fixture
def sick(monkeypatch):
    """Trains with a network that is harmed before its first step."""

    def trained(arch, data, harm, config=BRIEF, **more):
        def build(architecture):
            model = build_model(architecture)
            open_branches(model)
            harm(model)
            return model

        monkeypatch.setattr(run, "build_model", build)
        open_already = config.model_copy(update={"zero_init_branches": True})
        return train(arch, data, open_already, seed=0, **more)

    return trained


def fixed_gates(module, value):
    """Gates stuck at a value, whatever comes in."""

    def stuck(mask_model):
        for name, gate in mask_model.named_modules():
            if name.rpartition(".")[2] == "gate":
                gate.register_forward_hook(lambda _, __, output: output * 0 + value, prepend=True)

    stuck(module)


def shut(model):
    fixed_gates(model.layer3, 0.0)


def kill_branch(model):
    last = model.layer2[0].bn2
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    last.requires_grad_(False)


def shrink(model):
    """Each stage begins with a norm that has forgotten how to scale."""
    for layer in (model.layer2, model.layer3, model.layer4):
        for norm in (layer[0].bn2, layer[0].downsample[1]):
            nn.init.constant_(norm.weight, 1e-5)


def explode(model):
    model.fc.weight.data *= 1e8


def lighten(model):
    """A stage so light that ordinary steps make it many times heavier."""
    for module in model.layer4.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data *= 0.01


def from_step(number, change):
    """Changes the logits of every training step from this one on."""

    def harm(model):
        steps = count()

        def hook(model, _, logits):
            return change(logits) if model.training and next(steps) >= number else None

        model.register_forward_hook(hook)

    return harm


def amplify_gradient(logits):
    logits.register_hook(lambda gradient: 1000 * gradient)
    return logits


ENDINGS = {
    "non-finite": (micro_with(), from_step(7, lambda logits: math.inf * logits), None),
    "loss-spike": (micro_with(), from_step(22, lambda logits: 1000 * logits), None),
    "gradient-explosion": (micro_with(), from_step(22, amplify_gradient), None),
    "skip-closed": (micro_with(StageFusion(), StageFusion(), P2_SE), shut, 3),
    "saturated-gates": (micro_with(StageFusion(), StageFusion(), P1_SE), shut, 3),
    "dead-branch": (micro_with(), kill_branch, 2),
    "trunk-collapse": (micro_with(), shrink, 2),
    "weight-growth": (micro_with(), lighten, 4),
    "broken-start": (micro_with(), explode, None),
}


STOPPED = {"non-finite", "broken-start", "loss-spike", "gradient-explosion", "skip-closed"}
"""What the networks above do not come back from."""


@pytest.mark.parametrize("signal", ENDINGS)
def test_a_network_that_breaks_in_one_way_is_named_for_it_and_ends_unless_it_learns(sick, digits, signal):
    """Those of a trunk at 1e-5 of its scale, of weights that grow 175 times, of gates stuck shut reach 0.9."""
    arch, harm, stage = ENDINGS[signal]
    config = BRIEF.model_copy(update={"epochs": 18})
    ended = sick(
        arch, digits, harm, config, guard=GuardConfig.only(signal).model_copy(update={"verdicts": {signal: "prune"}})
    )
    if signal in STOPPED:
        assert (ended.outcome, ended.reason) == (Outcome.UNSTABLE, signal)
    else:
        assert ended.outcome is Outcome.COMPLETE
        assert ended.score > 0.85
    event = ended.events[-1 if signal in STOPPED else 0]
    assert event.signal == signal
    assert (event.stage, event.block) == ((stage, 0) if stage else (None, None))
    if stage:
        assert f"layer{stage}.0" in event.message
        assert stage in [seen.get("stage") for seen in event.trace]
    assert event.trace[0]["loss"] > 0
    json.dumps(event.trace, allow_nan=False)


@pytest.mark.parametrize("signal", ENDINGS)
def test_the_same_network_unharmed_is_left_alone(sick, digits, signal):
    arch, _, _ = ENDINGS[signal]
    ended = sick(
        arch,
        digits,
        lambda _: None,
        guard=GuardConfig(verdicts=dict.fromkeys(ENDINGS, "prune") | {"broken-start": "warn"}),
    )
    assert (ended.outcome, ended.events) == (Outcome.COMPLETE, ())


@pytest.mark.parametrize("lag", [1, 16])
def test_what_is_broken_at_the_start_costs_one_step(sick, digits, lag, monkeypatch):
    monkeypatch.setattr(fit, "CPU_LAG", lag)
    arch, harm, _ = ENDINGS["broken-start"]
    ended = sick(arch, digits, harm)
    assert (ended.reason, ended.events[0].step, ended.epochs) == ("broken-start", 0, ())


def shuffled(num_train):
    """Digits with training labels that mean nothing."""
    data = open_data(DataConfig(num_train=num_train))
    images, labels = data._parts["train"]
    data._parts["train"] = (images, labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))])
    return data


SMALL_BATCHES = BRIEF.model_copy(update={"batch_size": 16})


@pytest.fixture
def meaningless():
    return shuffled(800)


def test_a_network_whose_statistics_lag_is_left_alone(micro, monkeypatch):
    """Validation stays at chance while the network learns."""

    def lagging(architecture, **kwargs):
        model = build_model(architecture, **kwargs)
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 1e-4
                norm.running_mean.fill_(5.0)
        return model

    monkeypatch.setattr(run, "build_model", lagging)
    ended = train(micro, open_data(DataConfig(num_train=300)), BRIEF, seed=0)
    assert (ended.outcome, ended.reason, ended.events) == (Outcome.COMPLETE, None, ())
    assert max(e.val_accuracy for e in ended.epochs) < 0.2


def test_labels_that_mean_nothing_end_at_chance(micro, meaningless):
    ended = train(micro, meaningless, SMALL_BATCHES, seed=0)
    assert (ended.outcome, ended.reason) == (Outcome.UNSTABLE, "chance-level")
    assert len(ended.epochs) == 3
    assert ended.epochs[-1].val_balanced_accuracy == ended.events[-1].value
    assert ended.events[-1].trace[-1]["chance_loss"] == pytest.approx(math.log(10), rel=1e-3)


# ── probation ──


def steps(losses, start=0, epoch=0):
    return [Observation(epoch=epoch, step=start + i, loss=loss, grad_norm=1.0) for i, loss in enumerate(losses)]


def epoch(number, accuracy, loss, num_epochs=20, size=30):
    return EpochReading(
        epoch=number,
        num_epochs=num_epochs,
        step=(number + 1) * size - 1,
        warm=True,
        last=number + 1 == num_epochs,
        train_loss=loss,
        val_loss=loss,
        accuracy=accuracy,
        chance_accuracy=0.1,
        chance_error=0.01,
        num_blocks=4,
        chance_loss=math.log(10),
    )


def alarmed(guard=None):
    """A guard with a spike in its second epoch of thirty steps, at 0.8."""
    guard = guard or Guard(GuardConfig())
    assert [guard.observe(seen) for seen in steps([1.0] * 30)] == [None] * 30
    assert guard.judge(epoch(0, 0.8, 0.6)) is None
    assert [guard.observe(seen) for seen in steps([1.0] * 20 + [9.0] * 10, 30, 1)] == [None] * 30
    assert guard.probation is not None
    return guard


def test_a_run_that_comes_back_goes_on():
    guard = alarmed()
    assert guard.judge(epoch(1, 0.3, 2.0)) is None
    assert guard.judge(epoch(2, 0.7, 1.0)) is None
    assert guard.probation is None
    (event,) = guard.events
    assert event.signal == "loss-spike"
    assert event.message.endswith("; came back in epoch 2")


def test_a_run_that_does_not_come_back_ends_with_its_alarm():
    guard = alarmed()
    assert guard.judge(epoch(1, 0.1, 2.4)) is None
    assert guard.judge(epoch(2, 0.1, 2.3)) is None, "forty steps have not passed since"
    event = guard.judge(epoch(3, 0.2, 2.3))
    assert guard.events == [event]
    assert event.signal == "loss-spike"
    assert "; 3 epochs later at 0.2 of the validation images, by class, where the run had 0.8" in event.message
    assert event.trace[-1]["accuracy"] == 0.2


def test_a_long_run_has_a_tenth_of_its_epochs_to_come_back():
    guard = Guard(GuardConfig())
    for seen in steps([1.0] * 25 + [9.0] * 5):
        guard.observe(seen)
    ends = [guard.judge(epoch(e, 0.1, 2.4, num_epochs=60)) is not None for e in range(12)]
    assert ends.index(True) == 5


def test_nothing_is_saved_by_ending_a_run_at_its_end():
    guard = alarmed()
    assert [guard.judge(epoch(e, 0.1, 2.4, num_epochs=3)) for e in (1, 2)] == [None] * 2


def test_an_alarm_that_stays_is_recorded_once():
    guard = Guard(GuardConfig())
    for number in range(6):
        for seen in steps([1.0] * 27 + [9.0] * 3, 30 * number, number):
            guard.observe(seen)
        assert guard.judge(epoch(number, 0.8, 0.5)) is None
    assert [event.signal for event in guard.events] == ["loss-spike"]


def test_an_epoch_that_began_before_the_alarm_does_not_lift_it():
    guard = alarmed()
    assert guard.judge(epoch(1, 0.8, 0.7)) is None
    assert guard.probation is not None
    assert [guard.judge(epoch(e, 0.1, 2.4)) is not None for e in (2, 3)] == [False, True]


def test_others_that_speak_in_a_probation_are_recorded_too():
    guard = alarmed()
    guard.observe(Observation(epoch=2, step=60, loss=1.0, grad_norm=90.0))
    assert [event.signal for event in guard.events] == ["loss-spike", "gradient-explosion"]


def test_a_run_that_recovers_from_chance_has_its_patience_anew():
    guard = Guard(GuardConfig(verdicts={"chance-level": "recover"}))
    ends = [guard.judge(epoch(e, 0.1, 2.4, num_epochs=9, size=60)) is not None for e in range(8)]
    assert guard.rate_factor < 1
    assert ends.index(True) == 7, "four epochs, and four more"


def test_what_is_clipped_is_judged_after_clipping(sick, digits):
    arch, harm, _ = ENDINGS["gradient-explosion"]
    clipped = BRIEF.model_copy(update={"clip_grad_norm": 1.0, "epochs": 12})
    ended = sick(arch, digits, harm, clipped, guard=GuardConfig.only("gradient-explosion"))
    assert ended.outcome is Outcome.COMPLETE
    assert ended.events == ()
    assert max(e.grad_norm for e in ended.epochs) > 1.0


# ── verdicts ──


def test_a_warning_is_recorded_once_and_the_run_goes_on(sick, digits):
    arch, harm, _ = ENDINGS["skip-closed"]
    ended = sick(arch, digits, harm, guard=GuardConfig.only("skip-closed"))
    assert (ended.outcome, ended.reason, len(ended.epochs)) == (Outcome.COMPLETE, None, 6)
    assert [(e.signal, e.stage) for e in ended.events] == [("skip-closed", 3)]


def test_recovery_lowers_the_rate_once_and_then_prunes():
    guard = Guard(GuardConfig(verdicts={"loss-spike": "recover"}, recover_factor=0.25))
    assert [guard.observe(s) for s in steps([1.0] * 30 + [9.0] * 3)] == [None] * 33
    assert guard.rate_factor == 0.25
    (event,) = guard.events
    assert event.message.endswith("the learning rate is multiplied by 0.25 from here")
    assert [guard.observe(s) for s in steps([9.0] * 30, 33)] == [None] * 30, "signals start afresh"
    assert guard.probation is None
    assert [guard.observe(s) for s in steps([99.0] * 3, 63)] == [None] * 3
    assert guard.probation is not None
    assert guard.rate_factor == 0.25


def test_the_rate_falls_in_the_run(sick, digits):
    """From the step after the alarm on; the epoch record shows it."""
    arch, harm, _ = ENDINGS["skip-closed"]
    config = BRIEF.model_copy(update={"schedule": "constant", "learning_rate": 0.01, "epochs": 18})
    guard = GuardConfig.only("skip-closed").model_copy(update={"verdicts": {"skip-closed": "recover"}})
    ended = sick(arch, digits, harm, config, guard=guard)
    assert ended.reason == "skip-closed", "it stays shut"
    assert [e.step for e in ended.events] == [5, 15], "and had two more inspections"
    rates = [e.learning_rate for e in ended.epochs]
    assert rates[0] <= 0.01
    assert rates[3:] == pytest.approx([0.001] * len(rates[3:]))


def test_a_resumed_guard_remembers_everything():
    config = GuardConfig(verdicts={"loss-spike": "recover", "gradient-explosion": "warn"})
    whole, first, second = Guard(config), Guard(config), Guard(config)

    def fed(guard, numbers):
        found = []
        for number in numbers:
            spike = [9.0] * 3 if number == 1 else [99.0] * 3 if number > 2 else [1.0] * 3
            found += [guard.observe(seen) for seen in steps([1.0] * 27 + spike, 30 * number, number)]
            found.append(guard.judge(epoch(number, *((0.8, 0.5) if number < 2 else (0.1, 2.4)))))
        return found

    fed(first, range(4))
    assert first.probation is not None
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    answers = fed(second, range(4, 8))
    assert fed(whole, range(8))[-len(answers) :] == answers
    assert any(answers)
    assert whole.events == second.events
    assert second.rate_factor == whole.rate_factor == 0.1


def test_warnings_survive_an_interruption(sick, digits, tmp_path):
    arch, harm, _ = ENDINGS["skip-closed"]
    guard = GuardConfig.only("skip-closed")
    done = []
    with pytest.raises(Interrupted):
        sick(
            arch,
            digits,
            harm,
            guard=guard,
            checkpoint=tmp_path / "c",
            on_epoch=done.append,
            should_stop=lambda: len(done) == 4,
        )
    resumed = sick(arch, digits, harm, guard=guard, checkpoint=tmp_path / "c")
    assert resumed.events == sick(arch, digits, harm, guard=guard).events != ()


def test_a_pruner_does_not_hide_that_a_run_broke(micro, meaningless):
    ended = train(micro, meaningless, SMALL_BATCHES, seed=0, on_epoch=lambda e: "median" if e.epoch == 2 else None)
    assert ended.reason == "chance-level"


# ── data that is at fault ──


def poisoned(part, index):
    data = open_data(DataConfig(num_train=200))
    images, labels = data._parts[part]
    images = images.float()
    images[index, 0, 3, 3] = float("nan")
    data._parts[part] = (images, labels)
    return data


@pytest.mark.parametrize("part", ["train", "val"])
def test_an_image_that_is_not_finite_is_the_datas_fault(micro, brief, part):
    with pytest.raises(DataError, match=rf"^digits: {part} part: image 17 holds values that are not finite$"):
        train(micro, poisoned(part, 17), brief, seed=0)


def test_the_file_is_named(image_folder, monkeypatch, brief):
    """Whatever a transform makes of it."""
    data = open_data(DataConfig(source=f"folder:{image_folder}", image_size=16, cache="off"))
    broken = data._parts["train"].file(4)
    batches = data.train_batches(batch_size=16, seed=0, on=torch.device("cpu"))
    order = list(batches._order)
    batch, position = next(
        (b, [i for i, _ in keys].index(4)) for b, keys in enumerate(order) if 4 in [i for i, _ in keys]
    )
    assert batches.origin(batch, position) == str(broken)
