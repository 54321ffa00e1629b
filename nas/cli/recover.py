"""``nas recover``: free the trials of dead workers, and check what a study stands on."""

import typer

from nas.cli.options import DEFAULT_URL, Storage, StudyName

SKEW_S = 5.0


def recover(study_name: StudyName, storage: Storage = DEFAULT_URL) -> int:
    """Free trials of dead workers, check the database and the checkpoints, and say what was done."""
    from nas.study.records import open_study
    from nas.study.recover import recover as mend

    found = mend(open_study(storage, study_name))
    typer.echo(f"dead workers      {', '.join(found.dead) or 'none'}")
    typer.echo(f"trials put back   {found.put_back}")
    typer.echo(f"checkpoints       {found.removed_checkpoints} of ended trials removed")
    typer.echo(f"database          {found.integrity}")
    skewed = abs(found.clock_skew_s) > SKEW_S
    typer.echo(f"clock             {found.clock_skew_s:+.1f} s against the database{': set it' if skewed else ''}")
    typer.echo(f"free disk space   {found.free_bytes / 2**30:.1f} GiB")
    return 0 if found.integrity == "ok" else 1
