"""``nas calibrate``: which cheap score can be trusted on a study's own data."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import DEFAULT_URL, SEEDS_HELP, Json, Storage, Workers, worker_count

if TYPE_CHECKING:
    from nas.estimate.calibrate import Progress
    from nas.estimate.config import CalibrationConfig
    from nas.estimate.ranking import Calibration
    from nas.study.config import StudyConfig

TELL_EVERY_S = 5.0


def calibrate(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file, or a shipped study's name.")],
    architectures: Annotated[
        int | None, typer.Option(help="Architectures to train in full; at least 8.", show_default="24")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help=SEEDS_HELP, show_default="3")] = None,
    workers: Workers = None,
    storage: Storage = DEFAULT_URL,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study file, e.g. training.epochs=3."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Measure which cheap score ranks architectures as full training does, and say what to use.

    The same command again goes on where it stopped.
    """
    from nas.cli.options import INTERRUPTED
    from nas.estimate.config import CalibrationConfig
    from nas.report.calibration import calibration_text
    from nas.study.config import StudyConfig

    study, _ = StudyConfig.load(study_file, set_ or ())
    given = {"architectures": architectures, "seeds": seeds}
    own = study.calibrate.model_dump() if study.calibrate else {}
    config = CalibrationConfig.parse(own | {k: v for k, v in given.items() if v is not None}, "calibrate")
    found = measure(study, config, storage, worker_count(workers, study.workers))
    if found is None:
        return INTERRUPTED
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else calibration_text(found))
    return 0


def measure(
    study: "StudyConfig", config: "CalibrationConfig | None", storage: str, num_workers: int
) -> "Calibration | None":
    """Do what is missing of a study's calibration and say how far it is; None after Ctrl-C."""
    from nas.cli.progress import say
    from nas.estimate.calibrate import calibrate as run
    from nas.study.calibration.task import task_of
    from nas.study.store.calibrations import CalibrationTable

    task = task_of(study, config)
    say(
        f"calibrating {study.name!r}: {len(task.architectures)} architectures × {task.config.seeds} seeds, "
        f"{len(task.runs)} runs, {num_workers} worker{'s' if num_workers > 1 else ''}"
    )
    try:
        return run(task, CalibrationTable(storage), workers=num_workers, on_progress=_Teller())
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return None


class _Teller:
    """Says now and then on standard error how far a calibration is."""

    def __init__(self) -> None:
        self._told_at = 0.0

    def __call__(self, progress: "Progress") -> None:
        from nas.cli.progress import say
        from nas.report.summary import duration_text

        if progress.done < progress.total and time.monotonic() - self._told_at < TELL_EVERY_S:
            return
        self._told_at = time.monotonic()
        left = f" · {duration_text(progress.left_s)} left" if progress.left_s is not None else ""
        say(f"{progress.done}/{progress.total} runs · {progress.share:.0%}{left}")
