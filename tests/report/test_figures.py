"""Figures hold the values and are figures to Plotly."""

import plotly.graph_objects as go

from nas.report.figures import MAX_EPOCHS_DRAWN, MAX_TRACES, cost_figure, curves_figure, history_figure, traces_figure
from nas.report.history import history
from nas.report.instability import instability
from nas.report.page import read_report
from nas.study.records import Study

from .synthetic import event, record

COMPLETE = record(0, 0.1, 0.2, 0.9, landmark="plain")
STOPPED = record(1, 0.3, state="pruned")
BROKEN = record(2, 0.1, state="pruned", reason="loss-spike", events=(event(1.0, 3.0, "inf"),))
ALL = (COMPLETE, STOPPED, BROKEN)


def named(figure: dict, name: str) -> dict:
    return next(trace for trace in figure["data"] if trace["name"] == name)


def test_plotly_knows_every_key(study: Study) -> None:
    figures = read_report(study).figures
    assert set(figures) == {"history", "curves", "cost", "traces"}
    for figure in figures.values():
        go.Figure(_coloured(figure)).to_json()


def _coloured(value: object) -> object:
    """Properties of the style sheet replaced by a colour, as the page does."""
    if isinstance(value, dict):
        return {key: _coloured(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_coloured(inner) for inner in value]
    return "#123456" if isinstance(value, str) and value.startswith("--") else value


def test_history() -> None:
    figure = history_figure(history(ALL), ALL)
    assert named(figure, "best so far")["y"] == [0.9, 0.9, 0.9]
    assert (named(figure, "stopped")["x"], named(figure, "stopped")["y"]) == ([1], [0.3])
    assert named(figure, "unstable")["customdata"] == ["none | none | none | none"]
    assert history_figure((), ())["data"] == []


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
