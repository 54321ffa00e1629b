"""The summary of a study, for people."""

from nas.report.summary import Summary
from nas.statistics import wilson_interval
from nas.study.records import TrialRecord
from nas.study.store.hints import command_line

FRONT_ROWS = 12
"""Members of a front that a summary shows."""
ENDED_EARLY = ("pruned", "fail")
"""States of trials whose score is not that of a full training."""
SIGNS = {"maximize": "↑", "minimize": "↓"}
NOTE = (
    "       (one seed each, intervals of the {count} validation images alone:\n"
    "       a candidate to confirm, not a proven difference)"
)


def counts_text(summary: Summary) -> str:
    """The counts of a summary, in one line."""
    scoring = summary.candidates
    parts = [str(scoring)] if scoring and scoring.ended < scoring.target else []
    return " · ".join(
        filter(None, (*parts, f"{summary.ended} of {summary.target} {summary.unit}s", states_text(summary)))
    )


def states_text(summary: Summary) -> str:
    """Trials by state, and why some ended early."""
    parts = [f"{summary.states[s]} {s}" for s in ("running", "complete", "pruned", "fail") if summary.states.get(s)]
    if summary.reasons:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.reasons.items()))
        parts[-1] += f" ({reasons})"
    return " · ".join(parts)


def pace_text(summary: Summary) -> str:
    """Workers, throughput and time left, in one line; empty where nobody works."""
    count = len(summary.workers)
    if not count:
        return ""
    parts = [f"{count} worker{'s' if count > 1 else ''}"]
    if summary.trials_per_minute and summary.left_s is not None:
        parts += [f"{summary.trials_per_minute:.1f} {summary.unit}s/min", f"about {duration_text(summary.left_s)} left"]
    return " · ".join(parts)


def duration_text(seconds: float) -> str:
    """A duration for people: ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _trial_lines(label: str, record: TrialRecord, count: int) -> list[str]:
    low, high = wilson_interval(record.score or 0.0, count)
    params = f"  {record.num_params:,} parameters" if record.num_params else ""
    ended = f"  {early_end(record)}" if record.state in ENDED_EARLY else ""
    first = f"{label:<6} {record.score:.4f} [{low:.3f}, {high:.3f}]  trial {record.number}{params}{ended}"
    return [first] if record.landmark == "plain" else [first, f"       {record.architecture}"]


def early_end(record: TrialRecord) -> str:
    """Where and why a trial of `ENDED_EARLY` ended: ``stopped after 4 of 30 epochs (chance-level)``."""
    return f"stopped after {len(record.epochs)} of {record.budget or '?'} epochs ({record.reason or record.state})"


def value_text(name: str, value: float | None) -> str:
    """An objective's value for people: counts in full, the rest to four digits."""
    if value is None:
        return "-"
    return (
        f"{value:,.0f}" if name in ("params", "macs") else f"{value:.4f}" if name.startswith("val_") else f"{value:.4g}"
    )


def front_text(summary: Summary, num_rows: int = FRONT_ROWS) -> str:
    """The front as a table, the plain network below it."""
    names = list(summary.objectives)
    heads = [f"{name} {SIGNS[way]}" for name, way in summary.objectives.items()]
    shown = list(summary.front[:num_rows])
    marks = {record.number: "" for record in shown}
    if summary.plain and summary.plain.values:
        shown += [summary.plain] if summary.plain not in shown else []
        marks[summary.plain.number] = "plain, on the front" if summary.plain in summary.front else "plain"
    rows = [[value_text(name, record.values.get(name)) for name in names] for record in shown]
    widths = [max(len(head), *(len(row[i]) for row in rows)) for i, head in enumerate(heads)]
    count = len(summary.front)
    lines = [f"front  {count} network{'s' if count != 1 else ''} that none beats in every objective"]
    lines.append("       " + "  ".join(f"{head:>{w}}" for head, w in zip(heads, widths, strict=True)) + "  trial")
    for record, row in zip(shown, rows, strict=True):
        cells = "  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True))
        network = marks[record.number] or " | ".join(record.stage_texts)
        lines.append(f"       {cells}  {record.number:<5}  {network}")
    if count > num_rows:
        every = command_line("trials", summary.name, url=summary.url)
        lines.append(f"       and {count - num_rows} more: {every}")
    return "\n".join(lines)


def summary_text(summary: Summary) -> str:
    """A summary for people."""
    kind = "study" if summary.unit == "trial" else "calibration"
    lines = [f"{kind} {summary.name}: {counts_text(summary)}"]
    if summary.candidates:
        lines.append(f"       {summary.candidates}; the best of them are trained")
    if summary.best:
        lines.extend(_trial_lines("best", summary.best, summary.num_val))
    if summary.best_fused and summary.best_fused is not summary.best:
        lines.extend(_trial_lines("fused", summary.best_fused, summary.num_val))
    if summary.plain and summary.plain.score is not None:
        lines.extend(_trial_lines("plain", summary.plain, summary.num_val))
    if summary.front:
        lines.append(front_text(summary))
    if summary.best:
        lines.append(NOTE.format(count=summary.num_val))
    if summary.verdict:
        lines.append(summary.verdict)
    if pace := pace_text(summary):
        lines.append(pace)
    return "\n".join(lines)
