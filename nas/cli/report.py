"""``nas report``: a study as one self-contained page."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, OUTPUT_HELP, Force, Storage, StudyName, check_free


def report(
    study_name: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help=OUTPUT_HELP)] = Path("report.html"),
    force: Force = False,
    storage: Storage = DEFAULT_URL,
) -> int:
    """Write a page that shows the answer, the search, what matters, what broke and every trial."""
    from nas.report.page import write_report
    from nas.study.store.reader import open_study

    study = open_study(storage, study_name)
    check_free(output, force=force)
    found = write_report(study, output)
    typer.echo(f"{output}: {found.answer.headline}")
    return 0
