"""Each signal on a series that fails in just its way, and on healthy ones."""

import json
import math

import pytest

from nas.training.config import GuardConfig
from nas.training.guard import TRACE, Guard
from nas.training.signals import SIGNALS
from nas.training.signals.block import DeadBranch, SaturatedGates, SkipClosed, TrunkCollapse, WeightGrowth
from nas.training.signals.epoch import ChanceLevel
from nas.training.signals.level import Level
from nas.training.signals.reading import BlockReading, EpochReading, Observation
from nas.training.signals.step import BrokenStart, GradientExplosion, LossSpike, NonFinite


def series(losses=None, norms=None):
    losses = losses or [2.3 * 0.98**i for i in range(len(norms))]
    norms = norms or [1.0] * len(losses)
    return [
        Observation(epoch=0, step=i, loss=loss, grad_norm=norm)
        for i, (loss, norm) in enumerate(zip(losses, norms, strict=True))
    ]


def first_alarm(signal, steps):
    for seen in steps:
        if (alarm := signal.observe(seen)) is not None:
            return seen.step, alarm
    return None


HEALTHY = {
    "falling": series([2.3 * 0.97**i + 0.05 * (i % 3) for i in range(200)], [1 / (1 + i / 50) for i in range(200)]),
    "hard batches late": series([0.02 if i > 40 and i % 25 else 2.3 * 0.9**i + 0.4 for i in range(200)]),
    "flat": series([2.3] * 100),
    "rising slowly": series([0.5 * 1.02**i for i in range(100)], [1.05**i for i in range(100)]),
}


@pytest.mark.parametrize("steps", HEALTHY.values(), ids=HEALTHY)
@pytest.mark.parametrize("signal", [NonFinite, BrokenStart, LossSpike, GradientExplosion])
def test_a_healthy_run_raises_no_alarm(signal, steps):
    assert first_alarm(signal(), steps) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["loss", "grad_norm"])
def test_non_finite_speaks_at_the_step(where, value):
    losses, norms = [1.0] * 10, [1.0] * 10
    (losses if where == "loss" else norms)[7] = value
    step, alarm = first_alarm(NonFinite(), series(losses, norms))
    assert step == 7
    assert str(value) in alarm.message


def test_non_finite_can_tolerate_single_steps():
    losses = [1.0, math.nan, 1.0, math.nan, math.nan, 1.0]
    assert first_alarm(NonFinite(3), series(losses)) is None
    assert first_alarm(NonFinite(2), series(losses))[0] == 4


def test_a_loss_spike_is_measured_against_the_own_average():
    losses = [2.0] * 60 + [9.0] * 3
    step, alarm = first_alarm(LossSpike(), series(losses))
    assert step == 62
    assert alarm.value == pytest.approx(4.5)
    assert first_alarm(LossSpike(5), series(losses)) is None
    assert first_alarm(LossSpike(), series([2.0] * 60 + [5.9] * 3)) is None
    assert first_alarm(LossSpike(), series([2.0] * 60 + [9.0, 9.0, 2.0] * 9)) is None, "single batches"


def test_a_loss_spike_below_the_start_level_is_a_hard_batch():
    fallen = [2.3] * 20 + [2.3 * 0.8**i for i in range(60)]
    assert first_alarm(LossSpike(), series([*fallen, *[2.0] * 3])) is None
    assert first_alarm(LossSpike(), series([*fallen, *[2.6] * 3])) is not None


def test_a_gradient_explosion_is_measured_against_the_running_median():
    norms = [2.0, 1.0, 3.0] * 20
    step, alarm = first_alarm(GradientExplosion(), series(norms=[*norms, 50.0]))
    assert (step, alarm.value) == (60, pytest.approx(25))
    assert first_alarm(GradientExplosion(), series(norms=[*norms, 39.0])) is None
    assert first_alarm(GradientExplosion(), series(norms=[1.0, 1.0, 1e6])) is None, "the median is not settled yet"


def test_small_batches_are_noisy():
    """Losses that double and halve at random are no spike, one far beyond them is."""
    noisy = [1.0 + (0.9 if i % 3 else -0.8) for i in range(90)]
    assert first_alarm(LossSpike(), series([*noisy, *[4.5] * 3])) is None
    assert first_alarm(LossSpike(), series([*noisy, *[12.0] * 3])) is not None


def test_only_the_first_step_is_the_start():
    for norm in (2e5, 1e-6):
        assert first_alarm(BrokenStart(), series(norms=[norm, 1.0]))[0] == 0
        assert first_alarm(BrokenStart(), series(norms=[1.0, norm])) is None
    assert first_alarm(BrokenStart(1e6), series(norms=[2e5])) is None


@pytest.mark.parametrize("signal", [NonFinite, LossSpike, GradientExplosion])
def test_a_signal_goes_on_from_its_state(signal):
    """Split anywhere, a series gives the same alarm."""
    losses = [2.0] * 60 + [9.0, 9.0, 9.0, math.nan]
    steps = series(losses, [1.0] * 60 + [500.0] * 4)
    whole = first_alarm(signal(), steps)
    split = 61 if signal is LossSpike else 30
    first, second = signal(), signal()
    assert first_alarm(first, steps[:split]) is None
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert first_alarm(second, steps[split:]) == whole
    assert whole is not None


def test_the_event_carries_evidence_as_json():
    guard = Guard(GuardConfig())
    events = [guard.observe(seen) for seen in series([1.0] * 30 + [math.nan])]
    assert events[:-1] == [None] * 30
    event = events[-1]
    assert (event.signal, event.step, event.value, event.threshold) == ("non-finite", 30, None, 1)
    assert event.message == "step 30: loss is nan"
    assert len(event.trace) == TRACE
    assert event.trace[-1] == {"epoch": 0, "step": 30, "loss": "nan", "grad_norm": 1.0}
    json.dumps(event.trace, allow_nan=False)


def test_a_signal_that_is_off_is_silent():
    steps = series([1.0] * 30 + [math.nan, 50.0], [1.0] * 30 + [math.inf, 1e9])
    guard = Guard(GuardConfig.off())
    assert [guard.observe(seen) for seen in steps] == [None] * 32


# ── blocks and epochs ──


def block(step=100, **fields):
    healthy = {"shortcut_scale": 1.0, "branch_scale": 0.8, "output_scale": 0.9, "trunk_ratio": 0.9, "weight_norm": 5.0}
    given = {"epoch": 1, "step": step, "stage": 3, "block": 1, "skip_factor": 0.5, "gate_slope": 0.9}
    return BlockReading(**{**healthy, **given, **fields})


SICK = {
    SkipClosed: {"skip_factor": 0.01},
    SaturatedGates: {"gate_slope": 0.001},
    DeadBranch: {"branch_scale": 0.001},
    TrunkCollapse: {"trunk_ratio": 1e-4},
}


@pytest.mark.parametrize("signal", SICK)
@pytest.mark.parametrize("sick", SICK)
def test_each_block_signal_hears_its_own_symptom_only(signal, sick):
    watching = signal()
    alarms = [watching.inspect(block(**SICK[sick])) for _ in range(watching.patience)]
    assert alarms[:-1] == [None] * (watching.patience - 1)
    assert (alarms[-1] is not None) == (signal is sick)


@pytest.mark.parametrize("signal", [SkipClosed, SaturatedGates, DeadBranch])
def test_a_block_signal_counts_in_a_row_and_goes_on_from_its_state(signal):
    sick, well = block(**SICK[signal]), block()
    watching = signal()
    assert [watching.inspect(seen) for seen in (sick, well, sick)] == [None] * 3
    resumed = signal()
    resumed.load_state_dict(json.loads(json.dumps(watching.state_dict())))
    assert resumed.inspect(sick) == watching.inspect(sick) is not None


def test_weight_growth_is_measured_against_the_first_norm_of_each_block():
    watching = WeightGrowth()
    assert watching.inspect(block(weight_norm=2.0)) is None
    assert watching.inspect(block(weight_norm=30.0, block=0)) is None, "another block"
    assert watching.inspect(block(weight_norm=15.9)) is None
    resumed = WeightGrowth()
    resumed.load_state_dict(json.loads(json.dumps(watching.state_dict())))
    assert resumed.inspect(block(weight_norm=16.1)).value == pytest.approx(8.05)
    lower = WeightGrowth(2)
    assert [lower.inspect(block(weight_norm=norm)) is None for norm in (2.0, 3.9, 4.1)] == [True, True, False]


def test_blocks_are_counted_apart():
    watching = SkipClosed()
    assert watching.inspect(block(skip_factor=0.0)) is None
    assert watching.inspect(block(skip_factor=0.0, block=2)) is None


def test_a_plain_block_has_nothing_to_close():
    plain = block(skip_factor=None, gate_slope=None)
    for signal in (kind() for kind in SIGNALS):
        assert [signal.inspect(plain) for _ in range(3)] == [None] * 3


def test_a_branch_that_starts_at_zero_has_time_to_grow():
    watching = DeadBranch()
    looks = [watching.inspect(block(step=step, branch_scale=0.0)) for step in (0, 10, 40, 50, 60)]
    assert [alarm is not None for alarm in looks] == [False] * 4 + [True], "two looks from step 50 on"


def epoch(**fields):
    chance = {"chance_accuracy": 0.1, "chance_error": 0.0158, "chance_loss": math.log(10)}
    learnt = {"train_loss": 1.0, "val_loss": 1.0, "accuracy": 0.6}
    place = {"epoch": 2, "step": 149, "warm": True, "last": False, "num_blocks": 4, "num_epochs": 2}
    return EpochReading(**{**place, **learnt, **chance, **fields})


NOTHING = {"train_loss": 2.31, "val_loss": 2.4, "accuracy": 0.12}


def lost(readings):
    """The epochs, counted from 1, at which the level was lost."""
    level, found = Level(), []
    for i, reading in enumerate(readings, start=1):
        level.see(reading)
        found += [i] if level.lost_in_a_row else []
    return found


def test_a_level_is_lost_where_both_losses_and_accuracy_say_so():
    assert lost([epoch(**NOTHING)] * 2) == [1, 2]
    assert lost([epoch()] * 2) == []
    assert lost([epoch(**NOTHING | {"train_loss": 2.0})]) == [], "batch norm's statistics lag"
    assert lost([epoch(**NOTHING | {"accuracy": 0.21})]) == []
    assert lost([epoch(**NOTHING | {"train_loss": math.nan})]) == [1]


def test_what_is_lost_is_half_of_what_was_had():
    high = epoch(accuracy=0.9, train_loss=0.1)
    assert lost([high, epoch(accuracy=0.45, train_loss=1.3)]) == [2]
    assert lost([high, epoch(accuracy=0.55, train_loss=1.3)]) == []
    assert lost([high, epoch(accuracy=0.1, train_loss=1.1)]) == [], "the loss has hardly risen"
    assert lost([high, epoch(accuracy=0.3, train_loss=1.9), high]) == [2]


def test_one_class_of_many_is_no_knowledge_however_frequent_it_is():
    """95 to 5: always naming the frequent class is 0.5 by class."""
    unequal = {"chance_accuracy": 0.5, "chance_error": 0.06, "chance_loss": 0.199}
    assert lost([epoch(**unequal, accuracy=0.5, train_loss=0.2)]) == [1]
    assert lost([epoch(**unequal, accuracy=0.6, train_loss=0.2)]) == []
    assert lost([epoch(**unequal, accuracy=0.5, train_loss=0.15)]) == []


def test_few_images_leave_room_for_luck():
    few = {"chance_accuracy": 0.5, "chance_error": 0.1, "chance_loss": math.log(2), "train_loss": 0.69}
    assert lost([epoch(**few, accuracy=0.57)]) == [1]
    assert lost([epoch(**few, accuracy=0.58)]) == []


def heard(readings, signal=None, level=None):
    """The epoch, counted from 1, that chance-level speaks after."""
    signal, level = signal or ChanceLevel(), level or Level()
    for i, reading in enumerate(readings, start=1):
        level.see(reading)
        if signal.judge(reading, level) is not None:
            return i
    return None


def test_chance_level_counts_what_is_lost():
    assert heard([epoch(**NOTHING)] * 9) == 3
    assert heard([epoch()] * 9) is None
    assert heard([epoch(accuracy=0.9, train_loss=0.1), *[epoch(accuracy=0.3, train_loss=1.9)] * 9]) == 4


@pytest.mark.parametrize("early", [{"warm": False}, {"step": 5}, {"num_blocks": 40}, {"last": True}])
def test_chance_level_waits_for_the_warm_up_and_saves_nothing_at_the_end(early):
    assert heard([epoch(**NOTHING, **early)] * 9) is None


def test_a_level_counts_in_a_row_and_goes_on_from_its_state():
    nothing = epoch(**NOTHING)
    assert heard([nothing, nothing, epoch(), nothing, nothing, nothing]) == 6
    first = Level()
    assert heard([nothing] * 2, level=first) is None
    assert heard([nothing], level=Level.of(json.loads(json.dumps(first.state_dict())))) == 1


@pytest.mark.parametrize(
    ("num_epochs", "steps", "expected"),
    [
        (3, 64, None),
        (5, 64, 3),
        (8, 64, 3),
        (14, 64, 5),
        (20, 64, 7),
        (100, 64, 35),
        (5, 32, 4),
        (8, 32, 4),
        (8, 16, None),
    ],
)
def test_chance_level_waits_for_epochs_for_steps_and_for_a_share_of_the_run(num_epochs, steps, expected):
    run = [
        epoch(**NOTHING, num_epochs=num_epochs, epoch=e, step=(e + 1) * steps - 1, warm=e > 0, last=e + 1 == num_epochs)
        for e in range(num_epochs)
    ]
    assert heard(run) == expected


HARD = {
    "se-everywhere": [
        (2.333, 0.107), (2.35, 0.121), (2.305, 0.135), (2.181, 0.111), (2.054, 0.201), (1.866, 0.248), (1.7, 0.33)
    ],
    "cbam-everywhere": [
        (2.328, 0.092), (2.337, 0.129), (2.242, 0.152), (1.954, 0.199), (1.73, 0.236), (1.564, 0.371), (1.4, 0.43)
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("num_epochs", [5, 8, 14])
def test_hard_data_takes_steps_to_leave_chance(name, num_epochs):
    """Training loss and accuracy of runs on 2,048 cluttered digits, which ended at 0.34 and 0.43 after 8 epochs."""
    run = [
        epoch(train_loss=loss, accuracy=right, num_epochs=num_epochs, chance_error=0.0133, epoch=e, step=32 * e + 31)
        for e, (loss, right) in enumerate(HARD[name])
    ]
    assert heard(run) is None


def test_hard_data_on_which_validation_lags_is_left_alone():
    """A run on 512 cluttered digits, 24 epochs of 8 steps, which ended at 0.37."""
    curve = [
        (2.34, 2.31, 0.055), (2.35, 2.74, 0.164), (2.29, 4.72, 0.164), (2.26, 6.54, 0.164), (2.16, 6.31, 0.164),
        (2.09, 3.31, 0.164), (2.04, 2.36, 0.227), (1.97, 3.74, 0.172), (1.93, 2.56, 0.211), (1.86, 1.97, 0.297),
        (1.79, 1.96, 0.266), (1.72, 2.45, 0.25), (1.66, 3.13, 0.133), (1.63, 1.99, 0.258), (1.55, 2.38, 0.266),
        (1.5, 2.62, 0.25), (1.45, 2.35, 0.18), (1.37, 3.56, 0.148), (1.32, 1.74, 0.336), (1.36, 1.85, 0.328),
    ]  # fmt: skip
    run = [
        epoch(
            train_loss=loss, val_loss=val, accuracy=right, num_epochs=24, chance_error=0.0265, epoch=e, step=8 * e + 7
        )
        for e, (loss, val, right) in enumerate(curve)
    ]
    assert heard(run) is None


def test_a_validation_loss_that_is_not_finite_is_heard():
    assert "validation loss is nan" in NonFinite().judge(epoch(val_loss=math.nan), Level()).message


def test_what_is_small_at_the_start_of_a_run_is_no_explosion_later():
    """Norms of a plain network on whole digits, which ended at 0.99: a hard image in epoch 25."""
    fitted = [2.0] * 25 + [0.005] * 150
    assert first_alarm(GradientExplosion(), series(norms=[*fitted, 0.1])) is None
    assert first_alarm(GradientExplosion(), series(norms=[*fitted, 2.1])) is not None


def test_an_older_checkpoint_has_no_level_at_the_start():
    signal = GradientExplosion()
    signal.load_state_dict({"norms": [1.0] * 30})
    assert signal.observe(Observation(epoch=0, step=30, loss=1.0, grad_norm=21.0)) is not None
