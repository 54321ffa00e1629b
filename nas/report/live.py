"""A running study on one screen of a terminal: the best beside plain, the curves of what trains, and what broke."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.report.summary import Summary
from nas.report.summary_text import ENDED_EARLY, front_text, pace_text, states_text
from nas.report.trials import stages_text
from nas.statistics import wilson_interval
from nas.study.records import TrialRecord

BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 12
"""Columns of a sparkline."""
WIDTHS = {"": 5, "trial": 7, "running": 7, "epoch": 5, "score": 6, "curve": CURVE_WIDTH}
"""Least widths of columns, so that nothing moves while a study runs."""
FRONT_ROWS = 5
"""Members of a front that find room."""
OTHER_LINES = 13
"""Lines of one study's screen beside its running trials."""


def sparkline(values: Sequence[float], low: float, high: float, width: int = CURVE_WIDTH) -> str:
    """One bar a value, from ``low`` to ``high``; of many values the last of each of ``width`` equal parts."""
    count = min(len(values), width)
    shown = [values[(i + 1) * len(values) // count - 1] for i in range(count)]
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round(min(max(value - low, 0.0), high - low) * scale)] for value in shown)


def screen(summaries: Sequence[Summary], height: int) -> RenderableType:
    """All studies below each other on ``height`` lines; running trials that find no room are counted."""
    room = max(1, height // max(1, len(summaries)) - OTHER_LINES)
    parts: list[RenderableType] = []
    for summary in summaries:
        parts += [Text(""), *_study(summary, room)] if parts else _study(summary, room)
    return Group(*parts)


def _study(summary: Summary, room: int) -> list[RenderableType]:
    leaders = _leaders(summary)
    epochs = [epoch for record in (*leaders.values(), *summary.running) for epoch in record.epochs]
    low = min((epoch.val_accuracy for epoch in epochs), default=0.0)
    high = max((epoch.val_accuracy for epoch in epochs), default=1.0)
    parts: list[RenderableType] = [_head(summary)]
    if summary.candidates is not None and summary.candidates.ended < summary.candidates.target:
        parts.append(Text(str(summary.candidates)))
    parts.append(Text(states_text(summary) or f"no {summary.unit} has begun yet"))
    if pace := pace_text(summary):
        parts.append(Text(pace))
    if leaders:
        parts += [Text(""), _scores(leaders, summary, low, high)]
    if summary.best:
        parts.append(Text(f"best: {stages_text(summary.best)}", "dim"))
    if summary.front:
        shown = front_text(summary, FRONT_ROWS)
        parts += [Text(""), Text(shown, no_wrap=True, overflow="ellipsis")]
        room = max(1, room - shown.count("\n") - 2)
    if summary.running:
        parts += [Text(""), _running(summary, room, low, high)]
    return parts


def _leaders(summary: Summary) -> dict[str, TrialRecord]:
    """The trials that stand for the study, by what they are."""
    best, fused, plain = summary.best, summary.best_fused, summary.plain
    if best is not None and best is plain:
        named = {"best, plain": best, "fused": fused}
    else:
        named = {"best": best, "plain": plain}
    return {name: record for name, record in named.items() if record is not None and record.score is not None}


def _head(summary: Summary) -> Table:
    """The name, how far it is as a bar, and in figures."""
    row = Table.grid(expand=True, padding=(0, 2, 0, 0))
    row.add_column(no_wrap=True, overflow="ellipsis", max_width=32)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    bar = ProgressBar(
        total=max(1, summary.target), completed=summary.ended, complete_style="cyan", finished_style="green"
    )
    row.add_row(Text(summary.name, "bold"), bar, f"{summary.ended} of {summary.target} {summary.unit}s")
    return row


def _scores(leaders: dict[str, TrialRecord], summary: Summary, low: float, high: float) -> Table:
    """What leads, beside the plain network."""
    table = _table("", "trial", "score", "95 %", "over plain", "curve")
    plain = summary.plain.score if summary.plain and summary.plain.state not in ENDED_EARLY else None
    for name, record in leaders.items():
        score = record.score or 0.0
        start, end = wilson_interval(score, summary.num_val)
        over = "" if plain is None or record is summary.plain else f"{100 * (score - plain):+.2f}"
        cells = (name, str(record.number), f"{score:.4f}", f"[{start:.3f}, {end:.3f}]", over)
        table.add_row(*cells, _curve(record, low, high), style="bold" if record is summary.best else "")
    return table


def _running(summary: Summary, room: int, low: float, high: float) -> Table:
    """What trains now, with its curve so far."""
    table = _table("running", "epoch", "score", "curve")
    table.add_column("network", no_wrap=True, overflow="ellipsis", ratio=1)
    table.expand = True
    for record in summary.running[:room]:
        epochs = str(len(record.epochs)) if record.run else f"{len(record.epochs)}/{summary.epochs}"
        score = f"{record.epochs[-1].val_accuracy:.4f}" if record.epochs else ""
        network = record.run or record.landmark or stages_text(record) or "not drawn yet"
        table.add_row(str(record.number), epochs, score, _curve(record, low, high), Text(network))
    if len(summary.running) > room:
        table.add_row("", "", "", "", f"and {len(summary.running) - room} more")
    return table


def _curve(record: TrialRecord, low: float, high: float) -> Text:
    return Text(sparkline([epoch.val_accuracy for epoch in record.epochs], low, high), "cyan")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in columns:
        left = name in ("", "95 %", "curve")
        table.add_column(name, justify="left" if left else "right", no_wrap=True, min_width=WIDTHS.get(name))
    return table
