"""``nas worker``: join a running study from any machine."""

import signal
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, INTERRUPTED, Storage, StudyName

TIME_LIMIT_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""What cluster schedulers send to every process of a job shortly before its time is over."""


def worker(
    study_name: StudyName,
    storage: Storage = DEFAULT_URL,
    trials: Annotated[int | None, typer.Option(min=1, help="Leave after this many trials.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of this worker.")] = None,
    id_: Annotated[str | None, typer.Option("--id", hidden=True)] = None,
    shared: Annotated[bool, typer.Option("--shared", hidden=True)] = False,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
    deadline: Annotated[float | None, typer.Option(hidden=True)] = None,
) -> int:
    """Train trials of a stored study until it is done.

    NAME/confirm/SEED stands for all of what nas confirm has begun for the study NAME.
    """
    from nas.study.candidates import score_candidates
    from nas.study.confirm import TestedTraining, confirm_networks
    from nas.study.ledger import new_worker_id
    from nas.study.objective import Training
    from nas.study.records import open_study
    from nas.study.worker import StopFlag, Worker

    stop, worker_id = StopFlag(parent_pid=parent, deadline=deadline), id_ or new_worker_id()
    for number in (signal.SIGINT, signal.SIGTERM, *TIME_LIMIT_SIGNALS):
        signal.signal(number, lambda *_: stop.set())
    study = open_study(storage, study_name)
    if study.confirms is not None:
        tested = TestedTraining(study, device=device, threads=threads, shared=shared)
        confirm_networks(study, tested, stop=stop, worker_id=worker_id)
        return INTERRUPTED if stop() and deadline is None else 0
    candidates = study.candidates()
    if candidates is not None and candidates.num_ended() < candidates.target:
        cheap = Training(candidates, device=device, threads=threads, shared=shared)
        score_candidates(candidates, cheap, stop=stop, worker_id=worker_id)
    training = Training(study, device=device, threads=threads, shared=shared)
    Worker(study, training, stop=stop, worker_id=worker_id).run(trials)
    return INTERRUPTED if stop() and deadline is None else 0
