"""``nas export``: write the best architecture of a study, or any trial's."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, Storage, StudyName


class Format(StrEnum):
    """What is written."""

    YAML = "yaml"
    JSON = "json"


def export(
    study_name: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PATH", help="File to write.")],
    trial: Annotated[str, typer.Option(metavar="best|N", help="Which trial.")] = "best",
    format_: Annotated[Format | None, typer.Option("--format", help="Default: by the ending of PATH.")] = None,
    storage: Storage = DEFAULT_URL,
) -> int:
    """Write an architecture file that `nas.Architecture.load` reads."""
    from nas.export.files import export_architecture
    from nas.study.records import open_study

    chosen = format_.value if format_ else None
    record = export_architecture(open_study(storage, study_name), trial, output, chosen)
    typer.echo(f"{output}: trial {record.number}, {record.architecture}")
    return 0
