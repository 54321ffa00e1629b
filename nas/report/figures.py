"""The figures of a report as Plotly's plain values: ``{"data": …, "layout": …}``.

A colour that begins with ``--`` names a property of the page's style sheet, so that one figure serves
the light and the dark page.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

from nas.report.front import head
from nas.report.history import HistoryPoint, front, kind_of
from nas.report.instability import LossTrace
from nas.report.trials import stages_text
from nas.study.goals import Objectives
from nas.study.pareto import dominance_ranks, losses_of
from nas.study.records import TrialRecord, front_of

Figure = dict[str, Any]

MAX_EPOCHS_DRAWN = 20_000
"""Curves are thinned evenly above this many points."""
MAX_TRACES = 12
MAX_TICKS = 12
NUM_COLOURS = 6
"""Properties `--c1`, `--c2`, … of the style sheet."""
KINDS = {
    "complete": {"color": "--accent", "symbol": "circle"},
    "stopped": {"color": "--muted", "symbol": "circle-open"},
    "unstable": {"color": "--bad", "symbol": "x"},
    "fail": {"color": "--bad", "symbol": "x-open"},
    "running": {"color": "--good", "symbol": "diamond-open"},
}
HOVER = "trial %{x}<br>%{y:.4f}<br>%{customdata}<extra></extra>"


def history_figure(points: Sequence[HistoryPoint], records: Sequence[TrialRecord], goals: Objectives) -> Figure:
    """The leading objective in the order of the trials, and the best so far as a step line."""
    texts = {t.number: stages_text(t) for t in records}
    data: list[Figure] = []
    best = [p for p in points if p.best_so_far is not None]
    if best:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "best so far",
                "x": [p.trial for p in best],
                "y": [p.best_so_far for p in best],
                "line": {"shape": "hv", "color": "--accent", "width": 2},
                "hoverinfo": "skip",
            }
        )
    for kind, marker in KINDS.items():
        chosen = [p for p in points if p.kind == kind]
        if chosen:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": kind,
                    "x": [p.trial for p in chosen],
                    "y": [p.value for p in chosen],
                    "customdata": [texts[p.trial] for p in chosen],
                    "hovertemplate": HOVER,
                    "marker": {**marker, "size": 7},
                }
            )
    return {"data": data, "layout": _layout("trial", axis_title(goals.leading, goals))}


def axis_title(name: str, goals: Objectives) -> str:
    """What an axis of an objective is called."""
    return "validation accuracy" if name == "val_accuracy" and not goals.several else head(name, goals)


def curves_figure(records: Sequence[TrialRecord], highlighted: TrialRecord | None) -> Figure:
    """Validation accuracy after each epoch: all trials by kind, the best and the plain network in front."""
    trained = [t for t in records if t.epochs]
    step = -(-sum(len(t.epochs) for t in trained) // MAX_EPOCHS_DRAWN) or 1
    data: list[Figure] = []
    for kind in KINDS:
        chosen = [t for t in trained[::step] if kind_of(t) == kind]
        if chosen:
            data.append(_curves(kind, chosen, color=KINDS[kind]["color"], width=1, opacity=0.35))
    plain = next((t for t in trained if t.landmark == "plain"), None)
    if plain is not None and plain is not highlighted:
        data.append(_curves("plain", [plain], color="--text", width=2, opacity=1, dash="dot"))
    if highlighted is not None and highlighted.epochs:
        data.append(_curves("best", [highlighted], color="--accent", width=3, opacity=1))
    layout = _layout("epoch", "validation accuracy")
    if max((len(t.epochs) for t in trained), default=0) <= MAX_TICKS:
        layout["xaxis"]["dtick"] = 1
    return {"data": data, "layout": layout}


def _curves(
    name: str, trials: Sequence[TrialRecord], *, color: str, width: int, opacity: float, dash: str = "solid"
) -> Figure:
    """Many curves as one trace, with gaps between them."""
    return {
        "type": "scatter",
        "mode": "lines+markers" if all(len(t.epochs) == 1 for t in trials) else "lines",
        "name": name,
        "x": list(chain.from_iterable((*(e.epoch + 1 for e in t.epochs), None) for t in trials)),
        "y": list(chain.from_iterable((*(e.val_accuracy for e in t.epochs), None) for t in trials)),
        "customdata": list(chain.from_iterable([t.number] * (len(t.epochs) + 1) for t in trials)),
        "hovertemplate": "trial %{customdata}<br>epoch %{x}: %{y:.4f}<extra></extra>",
        "line": {"color": color, "width": width, "dash": dash},
        "opacity": opacity,
    }


def cost_figure(records: Sequence[TrialRecord]) -> Figure:
    """Score over MACs of the complete trials, with the front that none of them beats."""
    complete = [t for t in records if t.state == "complete" and t.macs is not None]
    best = front(records)
    marks: list[tuple[str, list[TrialRecord], Figure]] = [
        ("searched", [t for t in complete if not t.landmark], {"color": "--accent", "symbol": "circle", "size": 7}),
        ("landmarks", [t for t in complete if t.landmark], {"color": "--text", "symbol": "diamond", "size": 9}),
    ]
    if not complete:
        return {"data": [], "layout": {}}
    data: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "front",
            "x": [t.macs for t in best],
            "y": [t.score for t in best],
            "line": {"color": "--good", "width": 2, "shape": "hv"},
            "hoverinfo": "skip",
        }
    ]
    data += [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [t.macs for t in chosen],
            "y": [t.score for t in chosen],
            "customdata": [[t.number, t.landmark or stages_text(t)] for t in chosen],
            "hovertemplate": "trial %{customdata[0]}<br>%{x:.4s} MACs, %{y:.4f}<br>%{customdata[1]}<extra></extra>",
            "marker": marker,
        }
        for name, chosen, marker in marks
        if chosen
    ]
    return {"data": data, "layout": _layout("multiply-accumulates of one image", "validation accuracy")}


def front_figure(records: tuple[TrialRecord, ...], goals: Objectives, other: str) -> Figure:
    """The leading objective over another one: the front before all else that ran.

    The line joins those that none beats in these two objectives alone; with more of them, other members lie beside it.
    The axes reach as far as complete trials do, so that stopped ones do not squeeze them.
    """
    pair = Objectives({name: goals.directions[name] for name in (other, goals.leading)})
    known = [t for t in records if all(math.isfinite(t.values.get(name, math.nan)) for name in pair.names)]
    complete, members = [t for t in known if t.state == "complete"], front_of(records, goals)
    if not members:
        return {"data": [], "layout": {}}
    searched = [t for t in known if not t.landmark and t not in members]
    marks: list[tuple[str, list[TrialRecord], Figure]] = [
        ("stopped", [t for t in searched if t.state != "complete"], {**KINDS["stopped"], "size": 7, "opacity": 0.5}),
        ("complete", [t for t in searched if t.state == "complete"], {"color": "--text", "size": 6, "opacity": 0.6}),
        ("front", list(members), {"color": "--good", "size": 10}),
        (
            "landmarks",
            [t for t in known if t.landmark not in (None, "plain")],
            {"color": "--text", "symbol": "diamond-open", "size": 13},
        ),
        ("plain", [t for t in known if t.landmark == "plain"], {"color": "--bad", "symbol": "star-open", "size": 16}),
    ]
    layout = _layout(axis_title(other, goals), axis_title(goals.leading, goals))
    for axis, name in (("xaxis", other), ("yaxis", goals.leading)):
        layout[axis]["range"] = _range([t.values[name] for t in complete])
    data = [_step_line(members, pair), *(_marks(name, those, pair, marker) for name, those, marker in marks if those)]
    return {"data": data, "layout": layout}


def _range(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    air = 0.1 * (high - low) or 0.01 * abs(high) or 1.0
    return [low - air, high + air]


def _step_line(members: Sequence[TrialRecord], pair: Objectives) -> Figure:
    points = [pair.values(t.values) for t in members]
    cheap = pair.directions[pair.names[0]] == "minimize"
    ranks = dominance_ranks(losses_of(pair, points))
    ends = sorted({point for point, rank in zip(points, ranks, strict=True) if rank == 0})
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best of these two",
        "x": [x for x, _ in ends],
        "y": [y for _, y in ends],
        "line": {
            "color": "--good",
            "width": 2,
            "shape": "hv" if cheap else "vh",
        },
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _marks(name: str, trials: Sequence[TrialRecord], pair: Objectives, marker: Figure) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [t.values[pair.names[0]] for t in trials],
        "y": [t.values[pair.names[1]] for t in trials],
        "customdata": [[t.number, t.landmark or stages_text(t)] for t in trials],
        "hovertemplate": "trial %{customdata[0]}<br>%{x:.5g}, %{y:.4f}<br>%{customdata[1]}<extra></extra>",
        "marker": marker,
    }


def traces_figure(traces: Sequence[LossTrace]) -> Figure:
    """Losses of the last steps of broken trials, counted back from the step at which the guard spoke."""
    shown = [trace for trace in traces if trace.steps][:MAX_TRACES]
    signals = list(dict.fromkeys(trace.signal for trace in shown))
    first = {trace.signal: trace for trace in reversed(shown)}
    data: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": trace.signal,
            "legendgroup": trace.signal,
            "showlegend": first[trace.signal] is trace,
            "x": [step - trace.steps[-1] for step in trace.steps],
            "y": list(trace.losses),
            "hovertemplate": f"trial {trace.trial}<br>step %{{x}}: loss %{{y:.4g}}<extra></extra>",
            "line": {"width": 1.5, "color": f"--c{1 + signals.index(trace.signal) % NUM_COLOURS}"},
            "marker": {"size": 4},
        }
        for trace in shown
    ]
    layout = _layout("optimiser steps before the alarm", "training loss")
    layout["yaxis"]["type"] = "log"
    return {"data": data, "layout": layout}


def _layout(x: str, y: str) -> Figure:
    axis = {"gridcolor": "--line", "zeroline": False, "linecolor": "--line", "automargin": True}
    return {
        "xaxis": {**axis, "title": {"text": x}},
        "yaxis": {**axis, "title": {"text": y}},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hoverlabel": {"align": "left"},
        "hovermode": "closest",
        "dragmode": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "--text", "family": "system-ui, sans-serif", "size": 13},
    }
