"""``nas report``: a study as one self-contained page."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, Storage, StudyName


def report(
    study_name: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Page to write.")] = Path(
        "report.html"
    ),
    storage: Storage = DEFAULT_URL,
) -> int:
    """Write a page that shows the answer, the search, what matters, what broke and every trial."""
    from nas.report.page import write_report
    from nas.study.store.reader import open_study

    found = write_report(open_study(storage, study_name), output)
    typer.echo(f"{output}: {found.answer.headline}")
    return 0
