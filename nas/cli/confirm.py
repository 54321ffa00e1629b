"""``nas confirm``: train the best of a study again, and say whether it is better."""

import json
from functools import partial
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
    from nas.fusion.cost import CostComparison
    from nas.report.confirm import Verdict
    from nas.study.store.reader import Study


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
    a larger --top or --seeds adds to what is there. Exit code 1 where no verdict is possible.
    """
    from nas.cli.progress import run_workers, say
    from nas.report.confirm import verdict
    from nas.report.summary import summarise_confirmation
    from nas.study.confirm.prepare import prepare_confirmation
    from nas.study.confirm.train import drop_losers
    from nas.study.store.hints import command_line
    from nas.study.store.studies import open_own_study

    study = open_own_study(storage, study_name)
    starter = chosen_engine(
        engine, study.config, workers=workers, devices=devices, per_device=per_device, options=engine_set
    )
    starter.check(study.url)
    prepare_confirmation(study, top=top, num_seeds=seeds)
    ended = run_workers(
        study,
        starter,
        None,
        title=f"confirming {study.name!r}",
        look=partial(summarise_confirmation, study),
        parts=study.confirmations(),
    )
    if ended.interrupted:
        say(f"{ended.why}, running trainings wait again; the same command goes on from here")
        return INTERRUPTED
    drop_losers(study)
    said = verdict(study)
    if said is not None:
        _print(study, said, as_json=as_json)
    if said is not None and said.judgement is not None:
        return 0
    first = command_line("trials", study.confirmations()[0].name, url=study.url)
    say(f"no verdict over study {study.name!r}; what failed with the first of the seeds: {first}")
    return 1


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
