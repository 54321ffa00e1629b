"""``nas recover``: free the trials of dead workers, and check what a study stands on."""

import json

import typer

from nas.cli.options import DEFAULT_URL, Json, Storage, StudyName


def recover(study_name: StudyName, storage: Storage = DEFAULT_URL, as_json: Json = False) -> int:
    """Free trials of dead workers, remove orphan checkpoints, check the database, and say what was done."""
    from nas.report.health import foundation_text
    from nas.study.doctor import recover as mend
    from nas.study.store.studies import study_to_work_on

    done = mend(study_to_work_on(storage, study_name))
    if as_json:
        typer.echo(json.dumps(done.to_dict(), indent=2))
    else:
        typer.echo(f"dead workers      {', '.join(done.found.dead_workers) or 'none'}")
        typer.echo(f"trials put back   {done.put_back}")
        typer.echo(f"checkpoints       {done.removed_checkpoints} that no trial needs removed")
        typer.echo(f"database          {done.integrity}")
        typer.echo(foundation_text(done.found))
    return 0 if done.integrity == "ok" else 1
