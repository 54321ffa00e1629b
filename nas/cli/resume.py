"""``nas resume``: go on with a stored study, without its file."""

from typing import Annotated

import typer

from nas.cli.options import (
    DEFAULT_URL,
    Devices,
    Storage,
    StudyName,
    Workers,
    device_names,
    seconds,
    worker_count,
)


def resume(
    study_name: StudyName,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials to add.")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="30m", help="Stop after this time; resumable.")] = None,
    workers: Workers = None,
    devices: Devices = "auto",
    storage: Storage = DEFAULT_URL,
) -> int:
    """Go on with a stored study from the database alone."""
    from nas.cli.progress import say, work
    from nas.study.launch import set_target
    from nas.study.records import open_study

    study = open_study(storage, study_name)
    num_workers = worker_count(workers, study.config["workers"])
    dealt, limit = device_names(devices), seconds(timeout) or study.config["timeout_s"]
    if trials is not None:
        wanted = study.target + trials
        if (target := set_target(study, wanted)) < wanted:
            say(f"the space holds no more than {target} networks: the study ends there")
    return work(study, num_workers, dealt, limit)
