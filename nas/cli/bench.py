"""``nas bench``: replays on FusionBench, the table of complete trainings that ships with the package."""

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from nas.cli.options import Json, Workers, worker_count

TELL_EVERY_S = 5.0


def bench(
    what: Annotated[
        Literal["samplers", "estimators", "effects"],
        typer.Argument(
            metavar="WHAT",
            help="samplers: replay them; estimators: rank by the score after each epoch; effects: of each choice.",
        ),
    ],
    replays: Annotated[int, typer.Option(min=2, help="samplers: replays of each.")] = 20,
    trainings: Annotated[int, typer.Option(min=1, help="samplers: budget of a replay, in full trainings.")] = 30,
    sampler: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this sampler; may be given again.")
    ] = None,
    pruner: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this pruner, or none; may be given again.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another table than the one that ships.", show_default=False)
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> int:
    """Play searches back on 625 architectures whose every epoch is known: regret against epochs spent."""
    from nas.bench.table import load_table
    from nas.report.bench import effects_dict, effects_text, race_dict, race_text

    found = load_table(table)
    if what == "effects":
        typer.echo(json.dumps(effects_dict(found), indent=2) if as_json else effects_text(found))
        return 0
    if what == "estimators":
        from nas.bench.race import stopped_early
        from nas.report.calibration import calibration_text

        ranked = stopped_early(found)
        typer.echo(json.dumps(ranked.to_dict(), indent=2) if as_json else calibration_text(ranked))
        return 0
    from nas.bench.race import PRUNERS, SAMPLERS, race

    ended = race(
        found,
        samplers=sampler or SAMPLERS,
        pruners=pruner or PRUNERS,
        replays=replays,
        full_trainings=trainings,
        workers=worker_count(workers, 1),
        on_progress=_Teller(),
    )
    typer.echo(json.dumps(race_dict(ended), indent=2) if as_json else race_text(ended))
    return 0


class _Teller:
    """Says now and then on standard error how many replays are done."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        from nas.cli.progress import say

        if done == total or time.monotonic() - self._told_at > TELL_EVERY_S:
            self._told_at = time.monotonic()
            say(f"{done}/{total} replays")
