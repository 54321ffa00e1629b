"""``nas status``: where a study stands. Never loads torch."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import DEFAULT_URL, Json, Storage
from nas.errors import UserError

if TYPE_CHECKING:
    from nas.study.store.reader import Study


def status(
    study_name: Annotated[str | None, typer.Argument(metavar="STUDY", help="A study; without it all.")] = None,
    storage: Storage = DEFAULT_URL,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until the study is done; Ctrl-C ends it.")] = False,
) -> int:
    """Trials by state and reason, the best so far beside the plain network, throughput, workers, and what is stale."""
    from nas.report.health import health_text
    from nas.report.summary import summarise
    from nas.report.summary_text import summary_text
    from nas.study.doctor import examine

    if watch and as_json:
        raise UserError("--watch: shows a screen or lines for people; ask with --json as often as needed instead")
    studies = _studies(storage, study_name)
    if watch:
        from nas.cli.progress import watch_status

        return watch_status(studies)
    found = [(summarise(study), examine(study)) for study in studies]
    if as_json:
        content = [{**summary.to_dict(), "health": health.to_dict()} for summary, health in found]
        typer.echo(json.dumps(content[0] if study_name is not None else content, indent=2))
    else:
        texts = [
            f"{summary_text(summary)}\n{health_text(health, summary.name, summary.url)}" for summary, health in found
        ]
        typer.echo("\n\n".join(texts) or "no studies yet")
    return 0


def _studies(storage: str, name: str | None) -> "list[Study]":
    """The study of a name, or all, and the calibrations that are under way for them or for a study that is yet to be
    created."""
    from nas.study.store.reader import calibrations_in, open_study, study_names

    stored = study_names(storage)
    calibrations = [c for c in calibrations_in(storage, name) if c.calibrates not in stored or c.num_ended() < c.target]
    if name is None:
        return [*(open_study(storage, one) for one in stored), *calibrations]
    if name not in stored and calibrations:
        return calibrations
    return [open_study(storage, name), *calibrations]
