"""``nas studies``: all studies of a database. Never loads torch."""

import json

import typer

from nas.cli.options import DEFAULT_URL, Json, Storage


def studies(storage: Storage = DEFAULT_URL, as_json: Json = False) -> int:
    """List all studies of a database with their state, their size and their last sign of life."""
    from nas.report.studies import studies_table, study_rows
    from nas.study.run.checkpoints import checkpoint_folder, size_of
    from nas.study.store.studies import stored_studies

    stored = stored_studies(storage)
    sizes = [size_of([checkpoint_folder(storage, study.name, study.created_at)]) for study in stored]
    rows = study_rows(stored, sizes)
    typer.echo(json.dumps([row.to_dict() for row in rows], indent=2) if as_json else studies_table(rows))
    return 0
