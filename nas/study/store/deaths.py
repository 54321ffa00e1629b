"""Workers that die one after the other, whatever they were given: then the fault is not a candidate's.

The count stands with the study, so that it holds for all who work on it, now or one after the other; a study shares
it with the studies that work for it. An epoch that anybody stores sets it back. A death counts only if its worker
began after the last one that counted: what ends eight workers at once is one death, and so is one that two notice.
"""

import sqlalchemy as sa

from nas.errors import NasError
from nas.study.store import tables

MAX_DEATHS = 5
"""Two candidates of which each kills its workers are more than `nas.study.store.leases.MAX_CRASHES` of them."""


class WorkersDie(NasError):
    """Worker after worker has died, with no epoch in between; says what to do."""


def _whole(study_id: int) -> sa.ColumnElement[bool]:
    """The study for which a study works, or itself."""
    part = tables.studies.alias()
    main = sa.func.coalesce(part.c.candidates_of, part.c.confirms, part.c.study_id)
    return tables.studies.c.study_id == sa.select(main).where(part.c.study_id == study_id).scalar_subquery()


def num_deaths(connection: sa.Connection, study_id: int) -> int:
    """Deaths in a row of a study's workers."""
    return int(connection.scalar(sa.select(tables.studies.c.deaths).where(_whole(study_id))) or 0)


def note_death(connection: sa.Connection, study_id: int, deaths_before: int) -> None:
    """Count the death of a worker that began after ``deaths_before`` others."""
    ours = tables.studies.c.deaths
    update = sa.update(tables.studies).where(_whole(study_id), ours <= deaths_before)
    connection.execute(update.values(deaths=ours + 1))


def note_death_of(connection: sa.Connection, worker_id: str) -> None:
    """Count the death of a worker that had joined a study."""
    ours = tables.workers.c
    query = sa.select(ours.study_id, ours.deaths_before).where(ours.worker_id == worker_id)
    if (row := connection.execute(query).first()) is not None:
        note_death(connection, row.study_id, row.deaths_before)


def forget_deaths(connection: sa.Connection, study_id: int) -> None:
    """Somebody gets on, or has mended what killed the workers."""
    connection.execute(sa.update(tables.studies).where(_whole(study_id), tables.studies.c.deaths > 0).values(deaths=0))


def check_deaths(connection: sa.Connection, study_id: int) -> None:
    """Raise `WorkersDie` where it is of no use to start, or to be, another worker."""
    if (count := num_deaths(connection, study_id)) >= MAX_DEATHS:
        raise WorkersDie(
            f"{count} workers died one after the other, with no epoch in between (out of memory, or killed): it is not "
            "the networks; see the system's log, free memory or start fewer workers (--workers, training.batch_size), "
            "then nas resume goes on"
        )
