"""``nas trials``: one row a trial."""

from enum import StrEnum
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, FORMAT_HELP, Json, Storage, StudyName


class Format(StrEnum):
    """How the rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class State(StrEnum):
    """Trial states."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    RUNNING = "running"
    WAITING = "waiting"
    FAIL = "fail"


def trials(
    study_name: StudyName,
    storage: Storage = DEFAULT_URL,
    format_: Annotated[Format, typer.Option("--format", metavar="table|csv|json", help=FORMAT_HELP)] = Format.TABLE,
    json_: Json = False,
    state: Annotated[State | None, typer.Option(help="Only trials in this state.")] = None,
) -> int:
    """Print the trials of a study."""
    from nas.report.trials import trials_csv, trials_json, trials_table
    from nas.study.records import front_of
    from nas.study.store.reader import open_study

    study = open_study(storage, study_name)
    every, goals = study.trials(), study.settings.goals
    front = {t.number for t in front_of(every, goals)} if goals.several else set()
    rows = [t for t in every if state is None or t.state == state.value]
    if json_ or format_ is Format.JSON:
        typer.echo(trials_json(rows, front))
    elif format_ is Format.CSV:
        typer.echo(trials_csv(rows, front), nl=False)
    else:
        typer.echo(trials_table(rows, front))
    return 0
