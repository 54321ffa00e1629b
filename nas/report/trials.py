"""The trials of a study as a table, CSV or JSON."""

import csv
import io
import json
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas.report.summary_text import value_text
from nas.report.table_text import render_table
from nas.study.records import TrialRecord

COLUMNS = (
    "number",
    "state",
    "score",
    "epochs",
    "landmark",
    "reason",
    "num_params",
    "macs",
    "latency_ms",
    "peak_memory_mb",
    "front",
    "wall_s",
    "worker",
    "digest",
)
SHOWN = ("val_accuracy", "params")
"""Objectives that a table shows in any case."""
STAGES = tuple(f"stage{n}" for n in range(1, 5))


def trial_rows(records: Sequence[TrialRecord], front: Collection[int]) -> list[dict[str, object]]:
    """One flat row a trial: the columns and the fusion of each stage in short.

    Args:
        front: numbers of the trials on the front of several objectives.
    """
    rows = []
    for record in records:
        fields = record.to_dict() | {"front": record.number in front}
        stages = record.stage_texts or ("",) * len(STAGES)
        rows.append({**{name: fields[name] for name in COLUMNS}, **dict(zip(STAGES, stages, strict=True))})
    return rows


def stages_text(record: TrialRecord) -> str:
    """The fusion of all four stages in one line; empty before the trial has an architecture."""
    return " | ".join(record.stage_texts)


def trials_json(records: Sequence[TrialRecord], front: Collection[int]) -> str:
    """A JSON list with everything that is recorded of each trial."""
    return json.dumps([record.to_dict() | {"front": record.number in front} for record in records], indent=2)


def trials_csv(records: Sequence[TrialRecord], front: Collection[int]) -> str:
    """Comma-separated values with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, (*COLUMNS, *STAGES), lineterminator="\n")
    writer.writeheader()
    writer.writerows(trial_rows(records, front))
    return out.getvalue()


def trials_table(records: Sequence[TrialRecord], front: Collection[int]) -> str:
    """A table for people; a column for each objective that some trial has beside its score."""
    others = list(dict.fromkeys(name for record in records for name in record.values if name not in SHOWN))
    table = Table(box=None, pad_edge=False)
    for name in ("#", "state", "score", "ep", "params", *others, "s"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for name in (*STAGES, "note"):
        table.add_column(name)
    for record in records:
        on_front = "front" if record.number in front else None
        note = " · ".join(part for part in (record.run, record.landmark, on_front, record.reason) if part)
        cells = (
            str(record.number),
            record.state,
            "" if record.score is None else f"{record.score:.4f}",
            str(len(record.epochs)),
            f"{record.num_params:,}" if record.num_params else "",
            *(value_text(name, record.values.get(name)) for name in others),
            f"{record.wall_s:.1f}" if record.wall_s is not None else "",
            *(record.stage_texts or ("",) * len(STAGES)),
            note,
        )
        table.add_row(*(Text(cell) for cell in cells))
    return render_table(table, width=None if Console().is_terminal else 160)
