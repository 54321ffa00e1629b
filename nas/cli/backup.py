"""``nas backup``: a consistent copy of a live SQLite study."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, Storage, StudyName


def backup(
    study_name: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Database file to write.")],
    storage: Storage = DEFAULT_URL,
) -> int:
    """Copy the database of a study while workers write to it."""
    from nas.study.store.backup import backup as copy
    from nas.study.store.reader import open_study

    open_study(storage, study_name)
    size = copy(storage, output)
    typer.echo(f"{output}: {size / 1024:.0f} KiB; open it with --storage sqlite:///{output}")
    return 0
