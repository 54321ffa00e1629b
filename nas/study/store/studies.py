"""Rows of studies: which there are, new ones, what may change of one that is stored, and their removal."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from nas.errors import UserError
from nas.study.companions import CALIBRATION, CONFIRM, parent_of
from nas.study.records import ALIVE_S
from nas.study.store import deaths, tables
from nas.study.store.clock import clock
from nas.study.store.engine import bring_up_to_date, open_engine
from nas.study.store.errors import explained
from nas.study.store.hints import command_line
from nas.study.store.reader import Study, deleted, open_study
from nas.study.store.upgrade import NoStudies
from nas.study.store.urls import sqlite_path
from nas.study.store.workers import dead_workers

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


@dataclass(frozen=True, kw_only=True)
class StoredStudy:
    """What a database holds of a study, in numbers."""

    study_id: int
    name: str
    parent: str | None
    """The study for which it works, None of one that a user began."""
    created_at: float
    whole: bool
    """False where Optuna knows it no more: it was deleted with Optuna, and its results are gone."""
    target: int
    """Trials that it is to have in the end."""
    num_ended: int
    seen_at: float | None
    """The last sign of life of any worker, None where none ever joined."""
    silent_s: float | None
    """Seconds since then, by the database's clock."""
    num_alive: int
    """Workers that are alive now."""


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


def open_own_study(url: str, name: str) -> Study:
    """A stored study that a user began and that is to be changed; a companion is refused with its parent's command."""
    study = study_to_work_on(url, name)
    parent = parent_of(name)
    if parent is None:
        return study
    if name.startswith(parent + CALIBRATION):  # it may be there before the study, whose file it goes on with
        file = command_line("calibrate", "STUDY.yaml", url=url)
        raise UserError(
            f"study {name!r} is the calibration of {parent!r} and goes on with the file of that study: {file}, or nas "
            "search where a search began it"
        )
    command = "confirm" if name.startswith(parent + CONFIRM) else "resume"
    own = command_line(command, parent, url=url)
    raise UserError(f"study {name!r} works for the study {parent!r} and goes on with it: {own}")


def refuse_leftovers(engine: sa.Engine, url: str) -> None:
    """Refuse new studies while there are rows of one that was deleted with Optuna: its numbers would be used again."""
    ours, theirs = tables.studies.c, tables.optuna_studies.c
    gone = sa.not_(sa.exists().where(theirs.study_id == ours.study_id, theirs.study_name == ours.name))
    with engine.connect() as connection:
        name = connection.scalar(sa.select(ours.name).where(gone).order_by(ours.study_id).limit(1))
    if name is not None:
        raise deleted(url, name)


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


def stored_studies(url: str) -> tuple[StoredStudy, ...]:
    """All fusion-nas studies of a database, companions among them, oldest first."""
    ours, theirs, workers = tables.studies.c, tables.optuna_studies.c, tables.workers.c
    whole = sa.and_(theirs.study_id == ours.study_id, theirs.study_name == ours.name)
    ended = (
        sa.select(sa.func.count())
        .where(tables.optuna_trials.c.study_id == ours.study_id, tables.state_text().in_(tables.ENDED))
        .scalar_subquery()
    )
    seen = sa.select(sa.func.max(workers.heartbeat_at)).where(workers.study_id == ours.study_id).scalar_subquery()
    query = (
        sa.select(
            *(ours[name] for name in ("study_id", "name", "created_at")),
            (ours.target + tables.num_refused_of(ours.study_id)).label("target"),
            theirs.study_id.is_not(None).label("whole"),
            ended.label("num_ended"),
            seen.label("seen_at"),
        )
        .outerjoin(tables.optuna_studies, whole)
        .order_by(ours.study_id)
    )
    with explained(url), open_engine(url).connect() as connection:
        now = clock(connection)
        living = sa.and_(workers.ended_at.is_(None), workers.heartbeat_at > now - ALIVE_S)
        by_study = sa.select(workers.study_id, sa.func.count()).where(living).group_by(workers.study_id)
        alive: dict[int, int] = {row[0]: row[1] for row in connection.execute(by_study)}
        rows = connection.execute(query).mappings().all()
    return tuple(
        StoredStudy(
            **{key: row[key] for key in ("study_id", "name", "created_at", "target", "num_ended", "seen_at")},
            parent=parent_of(row["name"]),
            whole=bool(row["whole"]),
            silent_s=None if row["seen_at"] is None else now - row["seen_at"],
            num_alive=alive.get(row["study_id"], 0),
        )
        for row in rows
    )


def living_workers(url: str, study_ids: Collection[int]) -> list[str]:
    """Ids of workers that may still write to these studies: alive, or with a trial and not known to be dead."""
    ours = tables.workers.c
    query = sa.select(ours.worker_id, ours.heartbeat_at).where(ours.study_id.in_(study_ids), ours.ended_at.is_(None))
    engine = open_engine(url)
    with explained(url):
        dead = {worker.worker_id for study_id in study_ids for worker in dead_workers(engine, study_id, None)}
        with engine.connect() as connection:
            now = clock(connection)
            leased = sa.select(tables.leases.c.worker_id).where(tables.leases.c.study_id.in_(study_ids))
            holders = set(connection.scalars(leased))
            rows = connection.execute(query).all()
    return [w for w, seen in rows if w not in dead and (w in holders or now - seen < ALIVE_S)]


def remove_studies(storage: "RDBStorage", studies: Sequence[StoredStudy], tasks: Collection[str]) -> None:
    """Remove studies from Optuna's tables and from ours. What a crash in between leaves, another call removes.

    Rows of other studies stay, also where their trials have got the numbers of trials that Optuna had deleted.
    Architectures go with the last trial that owns them.

    Args:
        tasks: digests of calibrations whose results nobody needs any more.
    """
    for study in studies:
        if study.whole:
            storage.delete_study(study.study_id)
    ids = [study.study_id for study in studies]
    own = sa.select(tables.trials.c.trial_id).where(tables.trials.c.study_id.in_(ids))
    others = sa.select(tables.optuna_trials.c.trial_id)
    with storage.engine.begin() as connection:
        for table in (tables.epochs, tables.events):
            gone = sa.and_(table.c.trial_id.in_(own), table.c.trial_id.not_in(others))
            connection.execute(sa.delete(table).where(gone))
        for table in (table for table in tables.metadata.sorted_tables if "study_id" in table.c):
            connection.execute(sa.delete(table).where(table.c.study_id.in_(ids)))
        connection.execute(sa.delete(tables.calibrations).where(tables.calibrations.c.task.in_(tasks)))
        if connection.dialect.name == "postgresql":  # SQLite has one writer; here another may be giving one to a trial
            connection.exec_driver_sql(f"LOCK TABLE {tables.architectures.name} IN SHARE ROW EXCLUSIVE MODE")
        digest = tables.architectures.c.digest
        owned = sa.exists().where(tables.trials.c.digest == digest)
        connection.execute(sa.delete(tables.architectures).where(sa.not_(owned)))
