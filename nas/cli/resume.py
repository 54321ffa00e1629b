"""``nas resume``: go on with a stored study, without its file."""

from typing import Annotated

import typer

from nas.cli.options import (
    DEFAULT_URL,
    Devices,
    EngineOption,
    EngineOptions,
    PerDevice,
    Storage,
    StudyName,
    Trials,
    Workers,
    chosen_engine,
    deadline_of,
    seconds,
)


def resume(
    study_name: StudyName,
    trials: Trials = None,
    timeout: Annotated[str | None, typer.Option(metavar="30m", help="Stop after this time; resumable.")] = None,
    workers: Workers = None,
    devices: Devices = "auto",
    per_device: PerDevice = None,
    engine: EngineOption = "local",
    engine_set: EngineOptions = None,
    storage: Storage = DEFAULT_URL,
) -> int:
    """Go on with a stored study from the database alone."""
    from nas.cli.progress import say, work
    from nas.study.launch.create import set_target
    from nas.study.store.studies import open_own_study

    study = open_own_study(storage, study_name)
    limit = seconds(timeout) or study.config["timeout_s"]
    starter = chosen_engine(
        engine, study.config, workers=workers, devices=devices, per_device=per_device, options=engine_set
    )
    starter.check(study.url)
    if trials is not None and (target := set_target(study, trials)) < trials:
        say(f"the space holds no more than {target} networks: the study ends there")
    return work(study, starter, deadline_of(limit))
