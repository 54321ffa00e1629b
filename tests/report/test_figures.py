"""Figures hold the values and are figures to Plotly."""

import plotly.graph_objects as go

from nas.report.figures import (
    MAX_EPOCHS_DRAWN,
    MAX_TRACES,
    cost_figure,
    curves_figure,
    front_figure,
    history_figure,
    traces_figure,
)
from nas.report.history import history
from nas.report.instability import instability
from nas.report.page import read_report
from nas.study.goals import Objectives
from nas.study.records import TrialRecord
from nas.study.store.reader import Study

from .synthetic import event, record

ACCURACY = Objectives({"val_accuracy": "maximize"})
COMPLETE = record(0, 0.1, 0.2, 0.9, landmark="plain")
STOPPED = record(1, 0.3, state="pruned")
BROKEN = record(2, 0.1, state="pruned", reason="loss-spike", events=(event(1.0, 3.0, "inf"),))
ALL = (COMPLETE, STOPPED, BROKEN)


def named(figure: dict, name: str) -> dict:
    return next(trace for trace in figure["data"] if trace["name"] == name)


def test_plotly_knows_every_key(study: Study, several: Study) -> None:
    one, three = read_report(study).figures, read_report(several).figures
    assert set(one) == {"history", "curves", "cost", "traces"}
    assert set(three) == {"history", "curves", "front-latency_ms", "front-params", "traces"}
    for figure in (*one.values(), *three.values()):
        go.Figure(_coloured(figure)).to_json()


def _coloured(value: object) -> object:
    """Properties of the style sheet replaced by a colour, as the page does."""
    if isinstance(value, dict):
        return {key: _coloured(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_coloured(inner) for inner in value]
    return "#123456" if isinstance(value, str) and value.startswith("--") else value


def test_history() -> None:
    figure = history_figure(history(ALL, ACCURACY), ALL, ACCURACY)
    assert named(figure, "best so far")["y"] == [0.9, 0.9, 0.9]
    assert (named(figure, "stopped")["x"], named(figure, "stopped")["y"]) == ([1], [0.3])
    assert named(figure, "unstable")["customdata"] == ["none | none | none | none"]
    assert history_figure((), (), ACCURACY)["data"] == []


def test_curves_have_gaps_between_trials_and_epochs_from_one() -> None:
    figure = curves_figure((*ALL, record(3, 0.2, 0.4)), record(3, 0.2, 0.4))
    assert named(figure, "complete")["x"] == [1, 2, 3, None, 1, 2, None]
    assert named(figure, "complete")["y"] == [0.1, 0.2, 0.9, None, 0.2, 0.4, None]
    assert named(figure, "complete")["customdata"] == [0, 0, 0, 0, 3, 3, 3]
    assert named(figure, "best")["y"] == [0.2, 0.4, None]
    assert named(figure, "plain")["y"] == [0.1, 0.2, 0.9, None]


def test_many_curves_are_thinned() -> None:
    trials = [record(i, *[0.5] * 100) for i in range(500)]
    points = named(curves_figure(trials, None), "complete")["y"]
    assert len(points) <= 1.01 * MAX_EPOCHS_DRAWN


def test_cost() -> None:
    trials = (record(0, 0.9, landmark="plain"), record(1, 0.95, macs=2000), record(2, 0.8, macs=3000))
    figure = cost_figure(trials)
    assert (named(figure, "front")["x"], named(figure, "front")["y"]) == ([1000, 2000], [0.9, 0.95])
    assert named(figure, "landmarks")["customdata"] == [[0, "plain"]]
    assert named(figure, "searched")["x"] == [2000, 3000]
    assert cost_figure(())["data"] == []


def test_the_axis_of_the_history_is_the_leading_objective() -> None:
    loss = Objectives({"val_loss": "minimize"})
    titles = [history_figure((), (), goals)["layout"]["yaxis"]["title"]["text"] for goals in (ACCURACY, loss)]
    assert titles == ["validation accuracy", "val_loss ↓"]


def test_front() -> None:
    """Trial 3 is on the front for its few parameters, and lies beside the line of accuracy and latency."""
    goals = Objectives({"val_accuracy": "maximize", "latency_ms": "minimize", "params": "minimize"})

    def planted(number: int, accuracy: float, latency: float, params: float, **fields: object) -> TrialRecord:
        values = {"val_accuracy": accuracy, "latency_ms": latency, "params": params}
        return record(number, accuracy, values=values, **fields)

    trials = (
        planted(0, 0.80, 1.0, 50, landmark="plain"),
        planted(1, 0.90, 2.0, 60),
        planted(2, 0.95, 4.0, 60, landmark="se-post"),
        planted(3, 0.70, 3.0, 40),
        planted(4, 0.60, 3.0, 70),
        planted(5, 0.20, 9.0, 70, state="pruned", reason="asha"),
        record(6, state="pruned", reason="infeasible: params 99 > 80", values={"params": 99.0, "latency_ms": 1.0}),
        planted(7, float("nan"), 1.0, 50, state="pruned", reason="nan"),
    )
    figure = front_figure(trials, goals, "latency_ms")
    line = named(figure, "best of these two")
    assert (line["x"], line["y"], line["line"]["shape"]) == ([1.0, 2.0, 4.0], [0.8, 0.9, 0.95], "hv")
    assert [(t["name"], [n for n, _ in t["customdata"]]) for t in figure["data"][1:]] == [
        ("stopped", [5]),
        ("complete", [4]),
        ("front", [2, 1, 0, 3]),
        ("landmarks", [2]),
        ("plain", [0]),
    ]
    assert named(figure, "landmarks")["customdata"] == [[2, "se-post"]]
    low, high = figure["layout"]["xaxis"]["range"]
    assert (0.5 < low < 1.0, 4.0 < high < 9.0) == (True, True), "as far as complete trials reach"
    assert named(front_figure(trials, goals, "params"), "best of these two")["x"] == [40, 50, 60]
    assert front_figure(trials[5:], goals, "params")["data"] == []


def test_the_step_of_a_front_leads_where_values_are_reached() -> None:
    """More is better in both: between two members only the lesser value of the next one is reached."""
    goals = Objectives({"val_accuracy": "maximize", "val_top5": "maximize"})
    trials = [
        record(i, a, values={"val_accuracy": a, "val_top5": b}) for i, (a, b) in enumerate([(0.5, 1.0), (0.6, 0.9)])
    ]
    line = named(front_figure(tuple(trials), goals, "val_top5"), "best of these two")
    assert (line["x"], line["y"], line["line"]["shape"]) == ([0.9, 1.0], [0.6, 0.5], "vh")


def test_traces_count_back_from_the_alarm() -> None:
    figure = traces_figure(instability(ALL).traces)
    (trace,) = figure["data"]
    assert (trace["x"], trace["y"]) == ([-2, -1, 0], [1.0, 3.0, None])
    two = [record(i, state="pruned", reason=s, events=(event(1.0, signal=s),)) for i, s in enumerate(["a", "b", "a"])]
    drawn = [(t["name"], t["line"]["color"], t["showlegend"]) for t in traces_figure(instability(two).traces)["data"]]
    assert drawn == [("a", "--c1", True), ("b", "--c2", True), ("a", "--c1", False)]
    many = [record(i, state="pruned", reason="loss-spike", events=(event(1.0),)) for i in range(50)]
    assert len(traces_figure(instability(many).traces)["data"]) == MAX_TRACES
    assert traces_figure(())["data"] == []
