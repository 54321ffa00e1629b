"""Rows of studies: whether there is one, new ones, and what may change of one that is stored."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from nas.study.store import deaths, tables
from nas.study.store.engine import bring_up_to_date, open_engine
from nas.study.store.errors import explained
from nas.study.store.reader import Study, deleted, open_study
from nas.study.store.upgrade import NoStudies
from nas.study.store.urls import sqlite_path


def stored_study(url: str, name: str, *, upgrade: bool = True) -> Study | None:
    """The study of this name, None where the database or the study does not exist yet.

    Args:
        upgrade: whether an older database is brought up to date; else it is refused.
    """
    path = sqlite_path(url)
    if path is not None and (not path.exists() or path.stat().st_size == 0):
        return None
    try:
        if upgrade:
            bring_up_to_date(url)
        engine = open_engine(url)
    except NoStudies:
        return None
    with explained(url), engine.connect() as connection:
        found = connection.scalar(sa.select(tables.studies.c.study_id).where(tables.studies.c.name == name))
    return open_study(url, name) if found is not None else None


def study_to_work_on(url: str, name: str) -> Study:
    """A stored study that is to be changed: an older database is upgraded first. Else as `open_study`."""
    bring_up_to_date(url)
    return open_study(url, name)


def refuse_leftovers(engine: sa.Engine) -> None:
    """Refuse new studies while there are rows of one that was deleted with Optuna: its numbers would be used again."""
    ours, theirs = tables.studies.c, tables.optuna_studies.c
    gone = sa.not_(sa.exists().where(theirs.study_id == ours.study_id, theirs.study_name == ours.name))
    with engine.connect() as connection:
        name = connection.scalar(sa.select(ours.name).where(gone).order_by(ours.study_id).limit(1))
    if name is not None:
        raise deleted(name)


def add_studies(engine: sa.Engine, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store new studies, all or none."""
    with engine.begin() as connection:
        connection.execute(sa.insert(tables.studies), [dict(row) for row in rows])


def change_study(engine: sa.Engine, study_id: int, **values: Any) -> bool:
    """Change columns of a stored study; False where there is none."""
    mine = tables.studies.c.study_id == study_id
    with engine.begin() as connection:
        return bool(connection.execute(sa.update(tables.studies).where(mine).values(values)).rowcount)


def deaths_so_far(url: str, name: str) -> int:
    """Deaths in a row of a study's workers, of which whoever starts one takes note: see `count_death`."""
    study_id = open_study(url, name).study_id
    with explained(url), open_engine(url).connect() as connection:
        return deaths.num_deaths(connection, study_id)


def count_death(url: str, name: str, deaths_before: int) -> None:
    """Count the death of a worker that was started after ``deaths_before`` others and may not even have joined.

    Raises:
        WorkersDie: it is of no use to start another.
    """
    study_id = open_study(url, name).study_id
    with explained(url):
        with open_engine(url).begin() as connection:
            deaths.note_death(connection, study_id, deaths_before)
        with open_engine(url).connect() as connection:
            deaths.check_deaths(connection, study_id)


def begin_anew(study: Study) -> None:
    """Whoever gives the command to go on has mended what killed the workers before."""
    with explained(study.url), open_engine(study.url).begin() as connection:
        deaths.forget_deaths(connection, study.study_id)
