"""The trials of a study as a table, CSV or JSON."""

import csv
import io
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

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
    "wall_s",
    "worker",
    "digest",
)
STAGES = tuple(f"stage{n}" for n in range(1, 5))


def trial_rows(records: Sequence[TrialRecord]) -> list[dict[str, object]]:
    """One flat row a trial: the columns and the fusion of each stage in short."""
    rows = []
    for record in records:
        fields = record.to_dict()
        stages = record.stage_texts or ("",) * len(STAGES)
        rows.append({**{name: fields[name] for name in COLUMNS}, **dict(zip(STAGES, stages, strict=True))})
    return rows


def stages_text(record: TrialRecord) -> str:
    """The fusion of all four stages in one line; empty before the trial has an architecture."""
    return " | ".join(record.stage_texts)


def trials_json(records: Sequence[TrialRecord]) -> str:
    """A JSON list with everything that is recorded of each trial."""
    return json.dumps([record.to_dict() for record in records], indent=2)


def trials_csv(records: Sequence[TrialRecord]) -> str:
    """Comma-separated values with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, (*COLUMNS, *STAGES), lineterminator="\n")
    writer.writeheader()
    writer.writerows(trial_rows(records))
    return out.getvalue()


def trials_table(records: Sequence[TrialRecord]) -> str:
    """A table for people."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("#", "state", "score", "ep", "params", "s"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for name in (*STAGES, "note"):
        table.add_column(name)
    for record in records:
        note = " · ".join(part for part in (record.landmark, record.reason) if part)
        cells = (
            str(record.number),
            record.state,
            "" if record.score is None else f"{record.score:.4f}",
            str(len(record.epochs)),
            f"{record.num_params:,}" if record.num_params else "",
            f"{record.wall_s:.1f}" if record.wall_s is not None else "",
            *(record.stage_texts or ("",) * len(STAGES)),
            note,
        )
        table.add_row(*(Text(cell) for cell in cells))
    console = Console(file=io.StringIO(), width=None if Console().is_terminal else 160)
    console.print(table)
    out = console.file
    assert isinstance(out, io.StringIO)  # noqa: S101 - made four lines above
    return out.getvalue().rstrip()
