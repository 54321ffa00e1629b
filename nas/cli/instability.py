"""``nas instability``: what broke, by stage, pattern and attention. Never loads torch."""

import json
from dataclasses import asdict

import typer

from nas.cli.options import DEFAULT_URL, Json, Storage, StudyName


def instability(study_name: StudyName, storage: Storage = DEFAULT_URL, as_json: Json = False) -> int:
    """Print which fusions broke in training, by which signal and at which step, with 95 % intervals."""
    from nas.report.combinations import combinations, combinations_table
    from nas.report.instability import instability as of
    from nas.study.store.reader import open_study

    trials = open_study(storage, study_name).trials()
    rows, whole = combinations(trials), of(trials)
    if as_json:
        content = {
            "study": study_name,
            "num_trials": whole.num_trials,
            "num_unstable": whole.num_unstable,
            "returns": [asdict(alarm) for alarm in whole.returns],
            "rows": [row.to_dict() for row in rows],
        }
        typer.echo(json.dumps(content, indent=2))
        return 0
    typer.echo(f"study {study_name}: {whole.num_unstable} of {whole.num_trials} trials were unstable")
    typer.echo(combinations_table(rows) if rows else "no trial has run yet")
    for alarm in whole.returns:
        typer.echo(f"trial {alarm.trial}: {alarm.signal}, {alarm.message}")
    return 0
