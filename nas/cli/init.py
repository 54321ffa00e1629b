"""``nas init``: a study file for a folder of images."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import OUTPUT_HELP, Force, OldDevice, OneDevice, check_free, one_device


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Images, in one folder a class.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help=OUTPUT_HELP)] = Path("study.yaml"),
    name: Annotated[str | None, typer.Option(help="Name of the study; default: the folder's.")] = None,
    devices: OneDevice = "auto",
    device: OldDevice = None,
    force: Force = False,
) -> int:
    """Look at a folder of images and write a commented study file that fits it and this machine.

    The budget is chosen for the device.
    """
    from nas.cli.progress import say
    from nas.documents import write_atomically
    from nas.errors import UserError
    from nas.machine import cpu_count

    if output.suffix not in (".yaml", ".yml"):
        raise UserError(f"{output}: expected a file name that ends in .yaml")
    check_free(output, force=force)
    asked = one_device(devices, device)
    say(f"reading {folder}")

    from nas.study.launch.starter_file import study_text, suggest
    from nas.training.data.survey import survey_folder
    from nas.training.device import resolve_device

    kind = resolve_device(asked).type
    survey = survey_folder(folder)
    for note in survey.summary.notes:
        say(note)
    say(f"{survey.num_images:,} images of {survey.summary.num_classes} classes; measuring this machine")
    suggestion = suggest(survey, name=name or survey.root.name or "images", device=kind, num_cpus=cpu_count())
    text = study_text(suggestion, str(output))
    write_atomically(output, text)
    comments = [
        line.removeprefix("# ") for line in text.splitlines() if line.startswith(("# Found", "# Careful", "# Time"))
    ]
    typer.echo("\n".join([f"{output}: {suggestion.config.trials} trials on {suggestion.pace.device}", *comments]))
    typer.echo(f"run it with: {shlex.join(['nas', 'search', str(output)])}")
    return 0
