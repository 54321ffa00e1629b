"""``nas check``: the checklist, each line answered by running the model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import Json

if TYPE_CHECKING:
    from nas.fusion.check import CheckLine

ArchitectureFile = Annotated[Path, typer.Argument(metavar="ARCH.yaml", help="An architecture file.")]


def check(architecture_file: ArchitectureFile, json_: Json = False) -> int:
    """Run the checklist on an architecture; exit code 1 where a line fails."""
    from nas.architecture import Architecture
    from nas.fusion.check import check as run_check

    architecture = Architecture.load(architecture_file)
    lines = run_check(architecture)
    failed = any(line.verdict == "fail" for line in lines)
    if json_:
        content = {"architecture": architecture.digest, "passed": not failed, "lines": [vars(line) for line in lines]}
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{architecture.backbone.name}  {architecture}")
        typer.echo(table(lines))
    return int(failed)


def table(lines: "tuple[CheckLine, ...]") -> str:
    """One line a question, and how many passed."""
    width = max(len(line.name) for line in lines)
    rows = [f"{line.verdict:<4}  {line.name:<{width}}  {line.question}  {line.evidence}" for line in lines]
    counts = {verdict: sum(line.verdict == verdict for line in lines) for verdict in ("pass", "warn", "fail")}
    return "\n".join([*rows, ", ".join(f"{count} {verdict}" for verdict, count in counts.items())])
