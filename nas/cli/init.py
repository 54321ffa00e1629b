"""``nas init``: a study file for a folder of images."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Images, in one folder a class.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Study file to write.")] = Path(
        "study.yaml"
    ),
    name: Annotated[str | None, typer.Option(help="Name of the study; default: the folder's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps: what the budget is chosen for.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> int:
    """Look at a folder of images and write a commented study file that fits it and this machine."""
    from nas.cli.progress import say
    from nas.documents import write_atomically
    from nas.errors import UserError
    from nas.machine import cpu_count

    if output.suffix not in (".yaml", ".yml"):
        raise UserError(f"{output}: expected a file name that ends in .yaml")
    if output.exists() and not force:
        raise UserError(f"{output}: exists already; choose another name with -o, or overwrite it with --force")
    say(f"reading {folder}")

    from nas.study.launch.starter_file import study_text, suggest
    from nas.training.data.survey import survey_folder
    from nas.training.device import resolve_device

    kind = resolve_device(device).type
    survey = survey_folder(folder)
    say(f"{survey.num_images:,} images of {survey.summary.num_classes} classes; measuring this machine")
    suggestion = suggest(survey, name=name or survey.root.name or "images", device=kind, num_cpus=cpu_count())
    text = study_text(suggestion, str(output))
    write_atomically(output, text)
    comments = [
        line.removeprefix("# ") for line in text.splitlines() if line.startswith(("# Found", "# Careful", "# Time"))
    ]
    typer.echo("\n".join([f"{output}: {suggestion.config.trials} trials on {suggestion.pace.device}", *comments]))
    typer.echo(f"run it with: nas search {output}")
    return 0
