"""``nas export``: write the best architecture of a study, or any trial's, with or without its weights."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import DEFAULT_URL, FORMAT_HELP, OUTPUT_HELP, Force, Storage, StudyName, check_free
from nas.errors import UserError

if TYPE_CHECKING:
    from nas.study.store.reader import Study


class Format(StrEnum):
    """What is written."""

    YAML = "yaml"
    JSON = "json"
    TIMM = "timm"
    ONNX = "onnx"


def export(
    study_name: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PATH", help=OUTPUT_HELP)],
    trial: Annotated[
        str,
        typer.Option(
            metavar="best|confirmed|front|N",
            help="Which trial; confirmed: the winner of nas confirm; front: each member of it, into the folder PATH.",
        ),
    ] = "best",
    format_: Annotated[
        Format | None,
        typer.Option("--format", metavar="yaml|json|timm|onnx", help=FORMAT_HELP),
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the trial again: timm and onnx of trials whose weights are gone.")
    ] = False,
    force: Force = False,
    storage: Storage = DEFAULT_URL,
) -> int:
    """Write an architecture, or the trained network once it is verified to compute what it did in the study.

    Formats: yaml and json hold the architecture, timm is a folder that timm loads, onnx a file with the network.
    Without --format the ending of PATH tells.
    """
    from nas.export.files import FRONT, format_of, front_files
    from nas.study.store.reader import open_study

    study = open_study(storage, study_name)
    if trial == FRONT:
        chosen = format_.value if format_ else "yaml"
        files = front_files(study, output, chosen)
    else:
        chosen = format_of(output, format_.value if format_ else None)
        files = {trial: output}
    if retrain and chosen in ("yaml", "json"):
        raise UserError(f"--retrain: {chosen} carries no weights; it goes with timm and onnx")
    for path in files.values():
        check_free(path, force=force)
    for which, path in files.items():
        _write(study, which, path, chosen, retrain=retrain)
    return 0


def _write(study: "Study", which: str, path: Path, format_: str, *, retrain: bool) -> None:
    if format_ in ("yaml", "json"):
        from nas.export.files import export_architecture

        record = export_architecture(study, which, path)
        typer.echo(f"{path}: trial {record.number}, {record.architecture}")
        return
    from nas.export.models import export_model

    done = export_model(study, which, path, format_, retrain=retrain)
    checked = done.verification
    typer.echo(f"{path}: trial {done.record.number}, {done.architecture}")
    typer.echo(
        f"verified in a clean process: logits differ by at most {checked.logit_difference:.2g}, "
        f"validation accuracy {checked.score:.4f} (recorded {done.record.score:.4f})"
    )
