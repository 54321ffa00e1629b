"""The version of a database's tables, and bringing an older one to the present version."""

import sqlalchemy as sa

from nas.errors import UserError
from nas.study.records import ALIVE_S
from nas.study.store import tables
from nas.study.store.clock import clock
from nas.study.store.urls import redact

UPGRADES = (
    (2, "ALTER TABLE nas_studies ADD COLUMN candidates_of INTEGER"),
    (3, "ALTER TABLE nas_studies ADD COLUMN confirms INTEGER"),
    (4, "ALTER TABLE nas_epochs ADD COLUMN val_top5 FLOAT"),
    (4, "ALTER TABLE nas_epochs ADD COLUMN val_macro_f1 FLOAT"),
    (4, "ALTER TABLE nas_epochs ADD COLUMN val_balanced_accuracy FLOAT"),
    (5, "ALTER TABLE nas_studies ADD COLUMN clock_ms FLOAT"),
    (6, "ALTER TABLE nas_workers ADD COLUMN machine VARCHAR(256)"),
    (6, "ALTER TABLE nas_workers ADD COLUMN process_start BIGINT"),
    (
        6,
        "UPDATE trials SET state = 'WAITING' WHERE state = 'RUNNING' "
        "AND study_id IN (SELECT study_id FROM nas_studies) AND trial_id NOT IN (SELECT trial_id FROM nas_leases)",
    ),
    (6, "UPDATE nas_workers SET ended_at = heartbeat_at WHERE ended_at IS NULL"),
    (
        6,
        "INSERT INTO nas_members (trial_id, study_id) "
        "SELECT trial_id, study_id FROM trials WHERE study_id IN (SELECT study_id FROM nas_studies)",
    ),
    (6, "ALTER TABLE nas_studies ADD COLUMN deaths INTEGER DEFAULT 0 NOT NULL"),
    (6, "ALTER TABLE nas_workers ADD COLUMN deaths_before INTEGER DEFAULT 0 NOT NULL"),
    (6, "ALTER TABLE nas_studies ADD COLUMN calibrates VARCHAR(512)"),
)
"""By the version that brought it; new tables need none but what they are filled with."""


class NoStudies(UserError):
    """The database has none of our tables yet."""


def schema_version(engine: sa.Engine, url: str) -> int:
    """Version of a database's tables.

    Raises:
        NoStudies: it has none.
        UserError: a later version of this package wrote it.
    """
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(tables.schema.name):
            raise NoStudies(f"{redact(url)}: holds no fusion-nas study; `nas search` creates one")
        version: int | None = connection.scalar(sa.select(sa.func.max(tables.schema.c.version)))
    if version is None or version > tables.SCHEMA_VERSION:
        raise UserError(
            f"{redact(url)}: database schema {version}, this version reads {tables.SCHEMA_VERSION}; "
            "use the version of fusion-nas that wrote it"
        )
    return version


def require_present(engine: sa.Engine, url: str) -> None:
    """Refuse to read an older database: workers of the version that wrote it may be at work on it."""
    version = schema_version(engine, url)
    if version < tables.SCHEMA_VERSION:
        raise UserError(
            f"{redact(url)}: database schema {version}, this version reads {tables.SCHEMA_VERSION}; once no worker of "
            "the older version runs, nas search, nas resume or nas recover brings it up to date"
        )


def upgrade(engine: sa.Engine, url: str) -> None:
    """Bring an older database to the present schema, in one transaction; the caller holds the lock of making studies.

    Args:
        engine: one that `nas.study.store.engine.tune` was given: else SQLite would commit each statement alone.

    Raises:
        UserError: workers of the older version are at work.
    """
    with engine.begin() as connection:
        version = connection.scalar(sa.select(sa.func.max(tables.schema.c.version)))
        if version is None or version == tables.SCHEMA_VERSION:  # another process was faster
            return
        if count := _num_at_work(connection):
            raise UserError(
                f"{redact(url)}: database schema {version}, and {count} workers of the version that wrote it are at "
                "work; let them end, then type the same command again"
            )
        tables.metadata.create_all(connection)
        for since, statement in UPGRADES:
            if version < since:
                connection.execute(sa.text(statement))
        connection.execute(sa.insert(tables.schema).values(version=tables.SCHEMA_VERSION))


def _num_at_work(connection: sa.Connection) -> int:
    """Workers with a sign of life in the last `ALIVE_S`, by the database's clock."""
    ours = tables.workers.c
    lately = ours.heartbeat_at > clock(connection) - ALIVE_S
    query = sa.select(sa.func.count(ours.worker_id)).where(ours.ended_at.is_(None), lately)
    return connection.scalar(query) or 0
