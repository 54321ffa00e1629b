"""``nas search``: create a study or go on with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import (
    DEFAULT_URL,
    Devices,
    EngineOption,
    EngineOptions,
    Force,
    PerDevice,
    Storage,
    Trials,
    Workers,
    chosen_engine,
    deadline_of,
    seconds,
)

if TYPE_CHECKING:
    from nas.study.config import StudyConfig


def search(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file, or a shipped study's name.")],
    trials: Trials = None,
    timeout: Annotated[str | None, typer.Option(metavar="30m", help="Stop after this time; resumable.")] = None,
    workers: Workers = None,
    devices: Devices = "auto",
    per_device: PerDevice = None,
    engine: EngineOption = "local",
    engine_set: EngineOptions = None,
    storage: Storage = DEFAULT_URL,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of sampling and training.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study file, e.g. training.epochs=3."),
    ] = None,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be searched, and end.")] = False,
) -> int:
    """Create the study of a study file, or go on with it: the same command again resumes."""
    from nas.cli.calibrate import measure
    from nas.cli.progress import say, work
    from nas.study.config import StudyConfig
    from nas.study.launch.checks import check_place, read_data
    from nas.study.launch.create import check_same, create_study, set_target, set_tracking
    from nas.study.launch.relocate import relocate
    from nas.study.store.studies import stored_study

    overrides = list(set_ or ())
    overrides += [f"seed={seed}"] if seed is not None else []
    overrides += [f"trials={trials}"] if trials is not None else []
    config, text = StudyConfig.load(study_file, overrides)
    deadline = deadline_of(seconds(timeout) or config.timeout_s)
    starter = chosen_engine(
        engine, config.to_dict(), workers=workers, devices=devices, per_device=per_device, options=engine_set
    )
    check_place(config, storage, starter)
    study = stored_study(storage, config.name, upgrade=not dry_run)
    moved = study is not None and check_same(config, study)
    if dry_run:
        return _print_plan(config, starter.num_workers)
    if study is None:
        say(f"creating study {config.name!r}: reading {config.data.source}")
        summary = read_data(config)
        for remark in summary.remarks:
            say(remark)
        calibration = None
        if asked := config.first_calibration:
            found = measure(
                config, asked, text, storage, summary=summary, engine=starter, deadline=deadline, force=force
            )
            if isinstance(found, int):
                return found
            calibration = found
            say(calibration.advice)
            if config.estimate.by == "predictor" and calibration.settings["by"] != "predictor":
                say("the predictor ranks the candidates all the same, because the study file asks for it")
        study = create_study(config, text, storage, lambda _: summary, calibration, force=force)
    else:
        if moved:
            say(f"study {config.name!r}: comparing the images of {config.data.source}")
            relocate(study, config.data)
        if trials is not None or config.trials > study.num_wanted:
            set_target(study, config.trials)
        if config.tracking != study.config.get("tracking"):
            set_tracking(study, config.tracking)
    return work(study, starter, deadline)


def _print_plan(config: "StudyConfig", num_workers: int) -> int:
    from nas.cli.progress import say
    from nas.report.summary_text import SIGNS, duration_text
    from nas.study.launch.plan import plan_study

    say(f"reading {config.data.source} and measuring one candidate")
    plan = plan_study(config, num_workers)
    runs, before_s = plan.calibration
    rows = [
        ("study", config.name),
        ("space", f"{plan.space.name}: {plan.space.size:,} architectures"),
        ("backbone", f"{config.backbone.name}, {config.backbone.stem} stem"),
        ("data", config.data.source),
        *([("labels", plan.labels.text)] if plan.labels else []),
        ("objectives", ", ".join(f"{name} {SIGNS[way]}" for name, way in config.objectives.items())),
        ("trials", f"{config.trials}, of them landmarks: {', '.join(config.landmarks)}"),
        ("sampler", f"{config.sampler}; pruner {config.pruner.name}"),
        *(("then" if i else "first", str(network)) for i, network in enumerate(plan.suggestions)),
        (
            "training",
            f"{config.training.epochs} epochs, batches of {config.training.batch_size}, seed {config.seed}",
        ),
        ("estimate", _estimate_text(config)),
        ("workers", str(num_workers)),
        (
            "one trial",
            f"{duration_text(plan.trial_s)} ({plan.epoch_s:.2g} s an epoch, {plan.pace.train:,.0f} images/s in "
            f"training on {plan.pace.device})",
        ),
        *([("calibration", f"{runs} trainings before, {duration_text(before_s)}")] if runs else []),
        ("in all", f"{duration_text(plan.total_s)} at most; less where trials are stopped early"),
        *(("constraint", _bite_text(text, share)) for text, share in plan.bites.items()),
    ]
    for name, text in rows:
        typer.echo(f"{name:<11} {text}")
    return 0


def _bite_text(text: str, share: float) -> str:
    among = "the lightest random candidates" if text.startswith("latency_ms") else "random candidates"
    return f"{text}: {share:.0%} of {among} break it"


def _estimate_text(config: "StudyConfig") -> str:
    if config.estimate.by == "full":
        return "full: every candidate is trained"
    cheap = "the calibration decides: " if config.estimate.by == "auto" else f"{config.estimate.by}: "
    return f"{cheap}{config.estimate.candidates} candidates are scored, the best of them trained"
