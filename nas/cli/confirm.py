"""``nas confirm``: train the best of a study again, and say whether it is better."""

import json
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import (
    DEFAULT_URL,
    INTERRUPTED,
    SEEDS_HELP,
    Devices,
    EngineOption,
    EngineOptions,
    Json,
    PerDevice,
    Storage,
    StudyName,
    Workers,
    chosen_engine,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.fusion.cost import CostComparison
    from nas.report.confirm import Verdict
    from nas.study.confirm.judge import Progress
    from nas.study.launch.engines import Engine
    from nas.study.launch.engines import Workers as RunningWorkers
    from nas.study.store.reader import Study

POLL_S = 0.5
TELL_EVERY_S = 5.0


def confirm(
    study_name: StudyName,
    top: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Best trained networks to confirm, beside the landmarks.", show_default="3"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, max=1000, help=SEEDS_HELP)] = 5,
    workers: Workers = None,
    devices: Devices = "auto",
    per_device: PerDevice = None,
    engine: EngineOption = "local",
    engine_set: EngineOptions = None,
    storage: Storage = DEFAULT_URL,
    as_json: Json = False,
) -> int:
    """Train the best networks, the plain one and the landmarks in full with fresh seeds, and test them once.

    Says whether the best is better than the plain network. The same command again goes on where it stopped;
    a larger --top or --seeds adds to what is there.
    """
    from nas.report.confirm import verdict
    from nas.study.confirm.prepare import prepare_confirmation
    from nas.study.confirm.train import drop_losers
    from nas.study.store.studies import open_own_study

    study = open_own_study(storage, study_name)
    starter = chosen_engine(
        engine, study.config, workers=workers, devices=devices, per_device=per_device, options=engine_set
    )
    prepare_confirmation(study, top=top, num_seeds=seeds)
    if _train(study, starter):
        return INTERRUPTED
    drop_losers(study)
    said = verdict(study)
    if said is not None:
        _print(study, said, as_json=as_json)
    return 0


def _train(study: "Study", engine: "Engine") -> bool:
    """Do what is left with the workers of an engine, and say how far it is; True after Ctrl-C."""
    from nas.cli.progress import say
    from nas.study.confirm.judge import progress_of
    from nas.study.recovery import sweep_study

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end is an end like Ctrl-C
    sweep_study(study)
    parts = study.confirmations()
    progress = progress_of(parts)
    left = progress.total - progress.done
    if not left:
        return False
    count = min(engine.num_workers, left)
    say(f"confirming {study.name!r}: {left} trainings to do, {count} worker{'s' if count > 1 else ''}")
    workers = engine.start(parts[0], count, None)
    try:
        with workers:
            _follow(parts, workers)
    except KeyboardInterrupt:
        say("interrupted, running trainings wait again; the same command goes on from here")
        return True
    finally:
        sweep_study(study, workers.excused)
    return False


def _follow(parts: "Sequence[Study]", workers: "RunningWorkers") -> None:
    """Poll until all is trained and no worker runs; raises what a failed worker said, if work is left."""
    from nas.cli.progress import say
    from nas.study.confirm.judge import progress_of

    tell = _Teller()
    while True:
        ended = not workers.num_running
        progress = progress_of(parts)
        tell(progress)
        if progress.done < progress.total:
            for line in workers.mend():
                say(line)
        if ended and not workers.num_running:
            break
        time.sleep(POLL_S)
    if progress.done < progress.total:
        workers.raise_failure()


class _Teller:
    """Says now and then on standard error how far a confirmation is."""

    def __init__(self) -> None:
        self._first = self._told = -1
        self._began = self._told_at = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        from nas.cli.progress import say
        from nas.report.summary import duration_text

        now = time.monotonic()
        self._first = progress.done if self._first < 0 else self._first
        if now - self._told_at < TELL_EVERY_S or progress.done == self._told:
            return
        self._told_at, self._told = now, progress.done
        rate = (progress.done - self._first) / (now - self._began)
        pace = ""
        if rate:
            pace = f" · {60 * rate:.1f} trainings/min · {duration_text((progress.total - progress.done) / rate)} left"
        say(f"{progress.done} of {progress.total} trainings{pace}")


def _print(study: "Study", said: "Verdict", *, as_json: bool) -> None:
    from nas.report.confirm import verdict_text

    timed = _timed(study, said)
    if as_json:
        latency = timed and {"fused_ms": timed.fused.latency_ms, "plain_ms": timed.plain.latency_ms}
        typer.echo(json.dumps(said.to_dict() | {"latency": latency}, indent=2))
        return
    typer.echo(verdict_text(said))
    if timed is not None:
        fused, plain = timed.fused.latency_ms, timed.plain.latency_ms
        typer.echo(f"latency of its winner {fused:.2f} ms, of the plain network {plain:.2f} ms (one image, one thread)")


def _timed(study: "Study", said: "Verdict") -> "CostComparison | None":
    """The winner's latency beside the plain network's, on this machine."""
    from nas.fusion.cost import compare_cost

    if said.judgement is None:
        return None
    return compare_cost(said.judgement.winner.network.architecture, image_size=study.data["image_size"])
