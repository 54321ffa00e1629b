"""``nas worker``: join a running study from any machine."""

from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, INTERRUPTED, Storage, StudyName


def worker(
    study_name: StudyName,
    storage: Storage = DEFAULT_URL,
    trials: Annotated[int | None, typer.Option(min=1, help="Leave after this many trials.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of this worker.")] = None,
    stay: Annotated[
        bool, typer.Option(help="With nothing left to draw, wait for what other workers may leave.")
    ] = True,
) -> int:
    """Train trials of a stored study until it is done.

    NAME/confirm/SEED stands for all of what nas confirm has begun for the study NAME.
    """
    from nas.study.launch.joining import join_study

    stopped = join_study(study_name, storage, device=device, threads=threads, max_trials=trials, stay=stay)
    return INTERRUPTED if stopped else 0
