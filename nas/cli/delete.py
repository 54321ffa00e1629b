"""``nas delete``: remove a study with all that belongs to it."""

import sys
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, Storage, StudyName


def delete(
    study_name: StudyName,
    storage: Storage = DEFAULT_URL,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Remove a study with its companions, its checkpoints and its results; refused while workers live.

    Says what goes and asks. Also removes what is left of a study that was deleted with optuna or its dashboard.
    Exported files elsewhere and what a tracker has written stay.
    """
    from nas.cli.progress import say
    from nas.errors import UserError
    from nas.report.studies import removal_text
    from nas.study.removal import plan_removal, remove
    from nas.study.run.checkpoints import size_of

    planned = plan_removal(storage, study_name)
    text = removal_text(planned, size_of([*planned.checkpoints, *planned.results]))
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"{study_name}: nobody can be asked here; look with `nas studies`, then say --yes")
        say(text)
        typer.confirm("Remove all of this?", abort=True, err=True)
    remove(planned)
    typer.echo(f"removed:\n{text}")
    return 0
