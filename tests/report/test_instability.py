"""What broke."""

from dataclasses import replace

from nas.report.instability import instability

from .synthetic import P1_SE, architecture, event, record


def test_counts_by_reason_stage_and_pattern() -> None:
    fused = architecture(P1_SE)
    records = (
        record(0, 0.9),
        record(1, 0.9, architecture=fused),
        record(2, state="pruned", reason="loss-spike", architecture=fused, events=(event(1.0, 2.0, "nan"),)),
        record(3, 0.3, state="pruned", reason="median"),
        record(4, state="fail", reason="its worker died", architecture=None, score=None),
        record(5, state="waiting", architecture=None, score=None),
    )
    found = instability(records)
    assert (found.num_trials, found.num_unstable) == (4, 1)
    assert found.reasons == (("its worker died", 1), ("loss-spike", 1), ("median", 1))
    cells = {(c.stage, c.pattern): (c.num_unstable, c.num_trials) for c in found.cells}
    assert cells == {(1, "none"): (0, 2), (1, "p1"): (1, 2), **{(s, "none"): (1, 4) for s in (2, 3, 4)}}
    cell = found.cells[1]
    assert 0 < cell.low < 0.5 < cell.high < 1
    (trace,) = found.traces
    assert (trace.trial, trace.signal, trace.message) == (2, "loss-spike", "it jumped")
    assert (trace.steps, trace.losses) == ((10, 11, 12), (1.0, 2.0, None))


def test_a_warning_breaks_nothing() -> None:
    warned = event(1.0, signal="saturated-mask")
    stopped = record(0, 0.2, state="pruned", reason="median", events=(warned,))
    broken = record(1, 0.2, state="pruned", reason="loss-spike", events=(event(3.0), warned))
    found = instability((record(2, 0.9, events=(warned,)), stopped, broken))
    assert found.num_unstable == 1
    assert [(t.trial, t.signal, t.losses) for t in found.traces] == [(1, "loss-spike", (3.0,))]


def test_an_alarm_that_a_run_came_back_from_breaks_nothing_and_is_told() -> None:
    back = replace(event(1.0), message="step 312: the gradient jumped; came back in epoch 25")
    found = instability((record(0, 0.99, events=(back, event(1.0, signal="saturated-gates"))),))
    assert found.num_unstable == 0
    (told,) = found.returns
    assert (told.trial, told.signal) == (0, "loss-spike")
    assert told.message.endswith("came back in epoch 25")


def test_nothing_broke() -> None:
    found = instability(())
    assert (found.num_trials, found.num_unstable, found.reasons, found.cells, found.traces) == (0, 0, (), (), ())
    assert found.returns == ()
