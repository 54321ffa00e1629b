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
    from nas.documents import write_atomically
    from nas.errors import UserError
    from nas.report.page import read_report, render
    from nas.study.records import open_study

    if output.suffix not in (".html", ".htm"):
        raise UserError(f"{output}: expected a file name that ends in .html")
    found = read_report(open_study(storage, study_name))
    write_atomically(output, render(found))
    typer.echo(f"{output}: {found.answer.headline}")
    return 0
