"""The command line: each command parses, makes one library call and prints.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 the work failed,
2 the user's input was wrong (one line), 130 interrupted.
"""

import io
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from nas.cli import (
    backup,
    bench,
    calibrate,
    catalogue,
    check,
    confirm,
    cost,
    dashboard,
    delete,
    export,
    init,
    instability,
    recover,
    relocate,
    report,
    resume,
    search,
    status,
    studies,
    trials,
    worker,
)
from nas.cli.options import INTERRUPTED
from nas.errors import NasError

# Newer typer carries a click of its own, older typer imports click: this is the base of either's usage errors.
_UsageProblem: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="nas",
    help="Find where and how attention should be fused into a timm ResNet.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("search")(search.search)
app.command("resume")(resume.resume)
app.command("worker")(worker.worker)
app.command("status")(status.status)
app.command("studies")(studies.studies)
app.command("calibrate")(calibrate.calibrate)
app.command("confirm")(confirm.confirm)
app.command("trials")(trials.trials)
app.command("instability")(instability.instability)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("dashboard")(dashboard.dashboard)
app.command("check")(check.check)
app.command("cost")(cost.cost)
app.command("recover")(recover.recover)
app.command("relocate")(relocate.relocate)
app.command("backup")(backup.backup)
app.command("delete")(delete.delete)
app.command("bench")(bench.bench)
app.command("spaces")(catalogue.spaces)
app.command("landmarks")(catalogue.landmarks)
app.command("datasets")(catalogue.datasets)


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    """Find where and how attention should be fused into a timm ResNet."""
    if version:
        from nas import __version__

        typer.echo(f"fusion-nas {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Greek letters shows question marks
    try:
        result = app(args=given or ["--help"], standalone_mode=False)
    except NasError as error:
        return _fail(str(error), error.exit_code)
    except _UsageProblem as error:
        return _fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> int:
    print(f"nas: {' '.join(message.splitlines())}", file=sys.stderr)  # noqa: T201 - the command line's own voice
    return code
