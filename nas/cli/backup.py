"""``nas backup``: a consistent copy of a live SQLite study."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, OUTPUT_HELP, Force, Storage, StudyName, check_free


def backup(
    study_name: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help=OUTPUT_HELP)],
    force: Force = False,
    storage: Storage = DEFAULT_URL,
) -> int:
    """Copy the database of a study while workers write to it."""
    from nas.study.store.backup import backup as copy
    from nas.study.store.reader import open_study
    from nas.study.store.urls import sqlite_url

    open_study(storage, study_name)
    check_free(output, force=force)
    size = copy(storage, output)
    typer.echo(f"{output}: {size / 1024:.0f} KiB; open it with --storage {shlex.quote(sqlite_url(output))}")
    return 0
