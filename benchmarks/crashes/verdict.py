"""Whether disturbed work gave what undisturbed work gives, with nothing lost and nothing twice."""

import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.crashes.hits import Round
from benchmarks.crashes.subjects import Outcome, Subject
from nas.study.store import tables
from nas.study.store.engine import open_engine


def check(subject: Subject, url: str, done: Round, undisturbed: Outcome) -> None:
    """Note what is wrong with work that has ended."""
    parts = subject.parts(url)
    trials = [t for part in parts for t in part.trials()]
    done.trials = wanted = sum(part.target for part in parts)
    problems = [f"trial {t.number} is {t.state}: {t.reason}" for t in trials if t.state != "complete"]
    if len(trials) != wanted:
        problems.append(f"{len(trials)} trials instead of {wanted}")
    with open_engine(url).connect() as connection:
        measured = Counter(connection.scalars(sa.select(tables.measurements.c.trial_id)))
        leases = connection.scalar(sa.select(sa.func.count()).select_from(tables.leases))
        orphans = [
            f"{table.name}: rows of no trial"
            for table in (tables.trials, tables.epochs, tables.events, tables.measurements, tables.leases)
            if connection.scalar(
                sa.select(sa.func.count())
                .select_from(table)
                .where(table.c.trial_id.not_in(sa.select(tables.optuna_trials.c.trial_id)))
            )
        ]
        if connection.dialect.name == "sqlite":
            verdict = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
            problems += [f"integrity_check: {verdict}"] if verdict != "ok" else []
    problems += [f"trial {trial} was trained {count} times" for trial, count in measured.items() if count > 1]
    problems += [f"{leases} leases left"] if leases else []
    problems += orphans
    if subject.outcome(url) != undisturbed:
        problems.append("the results differ from those of the undisturbed study")
    done.problems += problems


@cache
def reference(subject: Subject, folder: Path) -> Outcome:
    """The same without a kill."""
    url = f"sqlite:///{folder / 'undisturbed.db'}"
    subject.prepare(url)
    subprocess.run(subject.line(url), check=True, capture_output=True)
    return subject.outcome(url)


def summary(rounds: list[Round]) -> dict[str, Any]:
    """Plain values for the file of results."""
    hits = [hit for one in rounds for hit in one.hits]
    return {
        "kills": len(hits),
        "of_launchers": sum(hit.victim == "launcher" for hit in hits),
        "in_a_trial": sum(hit.trial is not None for hit in hits),
        "studies": len(rounds),
        "trials": sum(one.trials for one in rounds),
        "problems": [problem for one in rounds for problem in one.problems],
        "resumed_after_s": [round(hit.resumed_after_s, 2) for hit in hits if hit.resumed_after_s is not None],
        "resumption_not_seen": sum(hit.trial is not None and hit.resumed_after_s is None for hit in hits),
        "epochs_lost": dict(Counter(str(hit.epochs_lost) for hit in hits if hit.trial is not None)),
    }
