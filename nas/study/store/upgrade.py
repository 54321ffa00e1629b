"""Bringing an older database to the present schema."""

import sqlalchemy as sa

from nas.errors import StorageError
from nas.study.store import tables
from nas.study.store.lock import exclusive
from nas.study.store.urls import redact

UPGRADES = (
    (2, "ALTER TABLE nas_studies ADD COLUMN candidates_of INTEGER"),
    (3, "ALTER TABLE nas_studies ADD COLUMN confirms INTEGER"),
    (4, "ALTER TABLE nas_epochs ADD COLUMN val_top5 FLOAT"),
    (4, "ALTER TABLE nas_epochs ADD COLUMN val_macro_f1 FLOAT"),
    (4, "ALTER TABLE nas_epochs ADD COLUMN val_balanced_accuracy FLOAT"),
    (5, "ALTER TABLE nas_studies ADD COLUMN clock_ms FLOAT"),
    (6, "ALTER TABLE nas_studies ADD COLUMN calibrates VARCHAR(512)"),
)
"""By the version that brought it; new tables need none."""


class NoStudies(StorageError):
    """The database has none of our tables yet."""


def schema_version(engine: sa.Engine) -> int | None:
    """Version of a database's tables; `None` where it holds none."""
    with engine.connect() as connection:
        version: int | None = connection.scalar(sa.select(sa.func.max(tables.schema.c.version)))
        return version


def check_schema(engine: sa.Engine, url: str) -> None:
    """Refuse a database of another version; an older one is upgraded."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(tables.schema.name):
            raise NoStudies(f"{redact(url)}: holds no fusion-nas study; `nas search` creates one")
        version = connection.scalar(sa.select(sa.func.max(tables.schema.c.version)))
    if version == tables.SCHEMA_VERSION:
        return
    if version is None or version > tables.SCHEMA_VERSION:
        raise StorageError(
            f"{redact(url)}: database schema {version}, this version reads {tables.SCHEMA_VERSION}; "
            "use the version of fusion-nas that wrote it"
        )
    with exclusive(url):
        _upgrade(engine)


def _upgrade(engine: sa.Engine) -> None:
    """Bring an older database to the present schema, in one transaction."""
    with engine.begin() as connection:
        version = connection.scalar(sa.select(sa.func.max(tables.schema.c.version)))
        if version is None or version == tables.SCHEMA_VERSION:  # another process was faster
            return
        tables.metadata.create_all(connection)
        for since, statement in UPGRADES:
            if version < since:
                connection.execute(sa.text(statement))
        connection.execute(sa.insert(tables.schema).values(version=tables.SCHEMA_VERSION))
