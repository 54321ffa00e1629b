"""Each signal on a series that fails in just its way, and on healthy ones."""

import json
import math

import pytest

from nas.training.config import GuardConfig
from nas.training.guard import TRACE, Guard
from nas.training.signals import SIGNALS, GradientExplosion, LossSpike, NonFinite, Observation


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
@pytest.mark.parametrize("signal", SIGNALS)
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
    losses = [2.0] * 60 + [9.0]
    step, alarm = first_alarm(LossSpike(), series(losses))
    assert step == 60
    assert alarm.value == pytest.approx(4.5)
    assert first_alarm(LossSpike(5), series(losses)) is None
    assert first_alarm(LossSpike(), series([2.0] * 60 + [5.9])) is None


def test_a_loss_spike_below_the_start_level_is_a_hard_batch():
    fallen = [2.3] * 20 + [2.3 * 0.8**i for i in range(60)]
    assert first_alarm(LossSpike(), series([*fallen, 2.0])) is None
    assert first_alarm(LossSpike(), series([*fallen, 2.6])) is not None


def test_a_gradient_explosion_is_measured_against_the_running_median():
    norms = [2.0, 1.0, 3.0] * 20
    step, alarm = first_alarm(GradientExplosion(), series(norms=[*norms, 50.0]))
    assert (step, alarm.value) == (60, pytest.approx(25))
    assert first_alarm(GradientExplosion(), series(norms=[*norms, 39.0])) is None
    assert first_alarm(GradientExplosion(), series(norms=[1.0, 1.0, 1e6])) is None, "the median is not settled yet"


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_signal_goes_on_from_its_state(signal):
    """Split anywhere, a series gives the same alarm."""
    losses = [2.0] * 60 + [9.0, math.nan]
    steps = series(losses, [1.0] * 60 + [500.0, 500.0])
    whole = first_alarm(signal(), steps)
    first, second = signal(), signal()
    assert first_alarm(first, steps[:30]) is None
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert first_alarm(second, steps[30:]) == whole
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
