"""``nas calibrate``: which cheap score can be trusted on a study's own data."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import (
    DEFAULT_URL,
    SEEDS_HELP,
    Devices,
    EngineOption,
    EngineOptions,
    Force,
    Json,
    PerDevice,
    Storage,
    Workers,
    chosen_engine,
    deadline_of,
    seconds,
)

if TYPE_CHECKING:
    from nas.estimate.calibration.task import CalibrationTask
    from nas.estimate.config import CalibrationConfig
    from nas.estimate.ranking import Calibration
    from nas.study.config import StudyConfig
    from nas.study.launch.engines import Engine
    from nas.training.summary import DataSummary


def calibrate(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file, or a shipped study's name.")],
    architectures: Annotated[
        int | None, typer.Option(help="Architectures to train in full; at least 8.", show_default="24")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help=SEEDS_HELP, show_default="3")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="30m", help="Stop after this time; resumable.")] = None,
    workers: Workers = None,
    devices: Devices = "auto",
    per_device: PerDevice = None,
    engine: EngineOption = "local",
    engine_set: EngineOptions = None,
    storage: Storage = DEFAULT_URL,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study file, e.g. training.epochs=3."),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Measure which cheap score ranks architectures as full training does, and say what to use.

    The same command again goes on where it stopped.
    """
    from nas.estimate.config import CalibrationConfig
    from nas.report.calibration import calibration_text
    from nas.study.config import StudyConfig
    from nas.study.launch.checks import read_data

    study, text = StudyConfig.load(study_file, set_ or ())
    given = {"architectures": architectures, "seeds": seeds}
    own = study.calibrate.model_dump() if study.calibrate else {}
    config = CalibrationConfig.parse(own | {k: v for k, v in given.items() if v is not None}, "calibrate")
    starter = chosen_engine(
        engine, study.to_dict(), workers=workers, devices=devices, per_device=per_device, options=engine_set
    )
    deadline = deadline_of(seconds(timeout) or study.timeout_s)
    summary = read_data(study)
    found = measure(study, config, text, storage, summary=summary, engine=starter, deadline=deadline, force=force)
    if isinstance(found, int):
        return found
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else calibration_text(found))
    return 0


def measure(
    study: "StudyConfig",
    config: "CalibrationConfig",
    text: str,
    storage: str,
    *,
    summary: "DataSummary",
    engine: "Engine",
    deadline: float | None,
    force: bool,
) -> "Calibration | int":
    """Do what is missing of a study's calibration and show how far it is; the exit code where it was broken off.

    Args:
        text: the study file.
        summary: of the study's data.
        force: also in a database that holds only tables of another program.
    """
    from nas.cli.progress import run_workers, say
    from nas.report.summary import summarise
    from nas.study.calibration.conclude import concluded
    from nas.study.calibration.prepare import prepare_calibration
    from nas.study.calibration.task import task_of
    from nas.study.launch.create import provenance

    study = study.on_data(summary)
    task = task_of(study, summary, config)
    calibration = prepare_calibration(study, text, storage, task, summary=summary, provenance=provenance(), force=force)
    if calibration is not None:
        title = f"calibrating {study.name!r}, {_size_text(task)}"
        ended = run_workers(calibration, engine, deadline, title=title, look=partial(summarise, calibration))
        if ended.interrupted or not ended.summary.done:
            say(f"{ended.why}, running trainings wait again; the same command goes on from here")
            return ended.exit_code
    return concluded(storage, task, calibration)


def _size_text(task: "CalibrationTask") -> str:
    return f"{len(task.architectures)} architectures × {task.config.seeds} seeds"
