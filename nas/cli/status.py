"""``nas status``: where a study stands. Never loads torch."""

import json
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, Json, Storage
from nas.errors import UserError


def status(
    study_name: Annotated[str | None, typer.Argument(metavar="STUDY", help="A study; without it all.")] = None,
    storage: Storage = DEFAULT_URL,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until the study is done; Ctrl-C ends it.")] = False,
) -> int:
    """Trials by state and reason, the best so far beside the plain network, throughput, workers, and what is stale."""
    from nas.report.summary import health_text, summarise, summary_text
    from nas.study.doctor import examine
    from nas.study.store.reader import open_study, study_names

    if watch and as_json:
        raise UserError("--watch: shows a screen or lines for people; ask with --json as often as needed instead")
    names = [study_name] if study_name is not None else study_names(storage)
    studies = [open_study(storage, name) for name in names]
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
