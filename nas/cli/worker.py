"""``nas worker``: join a running study from any machine."""

from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, INTERRUPTED, OldDevice, OneDevice, Storage, StudyName, one_device


def worker(
    study_name: StudyName,
    storage: Storage = DEFAULT_URL,
    max_trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Leave after this many trials or scores of candidates.")
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, hidden=True)] = None,
    devices: OneDevice = "auto",
    device: OldDevice = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    stay: Annotated[
        bool, typer.Option(help="With nothing left to draw, wait for what other workers may leave.")
    ] = True,
) -> int:
    """Train trials of a stored study until it is done.

    NAME/confirm/SEED stands for all of what nas confirm has begun for the study NAME.
    """
    from nas.study.launch.joining import join_study

    stopped = join_study(
        study_name,
        storage,
        device=one_device(devices, device),
        threads=threads,
        max_trials=max_trials or trials,  # the second is what the first was called
        stay=stay,
        stay_to_score=stay,
    )
    return INTERRUPTED if stopped else 0
