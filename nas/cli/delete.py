"""``nas delete``: remove a study with all that belongs to it."""

import sys
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, Storage


def delete(
    study_name: Annotated[str | None, typer.Argument(metavar="STUDY", help="Name of a stored study.")] = None,
    storage: Storage = DEFAULT_URL,
    cache: Annotated[
        bool,
        typer.Option("--cache", help="Remove decoded images, also those that `data.cache` placed, instead of a study."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Remove a study with its companions, its checkpoints and its results; refused while workers live.

    Says what goes and asks. Also removes what is left of a study that was deleted with optuna or its dashboard.
    Exported files elsewhere and what a tracker has written stay. Decoded images serve all studies and are made again
    when they are needed.
    """
    from nas.cli.progress import say
    from nas.errors import UserError

    if cache == (study_name is not None):
        raise UserError("nas delete: expected either STUDY or --cache")
    if study_name is None:
        return _delete_cache()

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


def _delete_cache() -> int:
    from nas.training.data.folder import shown
    from nas.training.data.places import remove_decoded

    for removed in remove_decoded():
        typer.echo(f"removed: {removed.num_bytes:,} bytes of decoded images in {shown(removed.place)}")
    return 0
