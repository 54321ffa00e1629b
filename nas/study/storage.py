"""Opening a study database: SQLite tuned for several workers, PostgreSQL for several machines.

Reading commands use `open_engine` and never import optuna; `open_storage` adds Optuna's own storage on top.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from filelock import FileLock

from nas.errors import StorageError
from nas.study import tables

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

DEFAULT_URL = "sqlite:///studies/nas.db"
BUSY_TIMEOUT_S = 60
CREATION_LOCK = 0x6E6173
"""Number of PostgreSQL's advisory lock: `nas` in ASCII."""


def redact(url: str) -> str:
    """The URL with its password hidden."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "the given storage URL"


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise StorageError(
            "--storage: not a database URL; expected sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise StorageError(f"{redact(url)}: expected a sqlite:/// or postgresql:// URL")
    if parsed.get_backend_name() == "sqlite" and not parsed.database:
        raise StorageError(f"{redact(url)}: expected sqlite:///PATH; a database in memory cannot be shared")
    return parsed


def sqlite_path(url: str) -> Path | None:
    """The database file of a SQLite URL, None for a server."""
    parsed = _parse(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def _engine_kwargs(url: str) -> dict[str, Any]:
    if sqlite_path(url) is None:
        return {"pool_pre_ping": True, "pool_size": 2, "max_overflow": 2}
    return {"connect_args": {"timeout": BUSY_TIMEOUT_S, "isolation_level": None, "check_same_thread": False}}


def _tune(engine: sa.Engine) -> None:
    """SQLite: write-ahead log, and every transaction takes the write lock at its start.

    pysqlite's deferred transactions let two workers read the same waiting trial and both claim it;
    ``BEGIN IMMEDIATE`` serialises them (https://docs.sqlalchemy.org/dialects/sqlite.html#pysqlite-serializable).
    """
    if engine.dialect.name != "sqlite":
        return

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _immediate(connection: sa.Connection) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    engine.dispose()


def _explain(url: str, error: Exception) -> StorageError:
    """One line for a database that cannot be used."""
    cause = str(getattr(error, "orig", error)).strip().splitlines()[0]
    hints = {
        "file is not a database": "this file is not an SQLite database; choose another path",
        "readonly database": "the database is read-only; make it writable or copy it with `nas backup`",
        "unable to open database file": "the file cannot be opened; check the folder and its permissions",
        "disk is full": "the disk is full; free some space and type the same command again",
        "database is locked": f"another program has locked the database for over {BUSY_TIMEOUT_S} s; stop it",
        "malformed": "the database is damaged; restore it from a backup",
    }
    hint = next((text for key, text in hints.items() if key in cause), cause)
    return StorageError(f"{redact(url)}: {hint}")


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn database errors inside the block into one-line `StorageError`."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
        raise _explain(url, error) from error


def open_engine(url: str) -> sa.Engine:
    """An engine on an existing study database, for reading; raises `StorageError` where there is none."""
    path = sqlite_path(url)
    if path is not None and not path.is_file():
        raise StorageError(f"{redact(url)}: no such database; `nas search` creates one")
    if path is not None:
        mode = "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
        uri = f"{path.resolve().as_uri()}?mode={mode}"
        engine = sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False),
            poolclass=sa.NullPool,
        )
    else:
        engine = sa.create_engine(_parse(url), **_engine_kwargs(url))
    with explained(url):
        _check_schema(engine, url)
    return engine


def _check_schema(engine: sa.Engine, url: str) -> None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(tables.schema.name):
            raise StorageError(f"{redact(url)}: holds no fusion-nas study; `nas search` creates one")
        version = connection.scalar(sa.select(sa.func.max(tables.schema.c.version)))
    if version != tables.SCHEMA_VERSION:
        raise StorageError(
            f"{redact(url)}: database schema {version}, this version reads {tables.SCHEMA_VERSION}; "
            "use the version of fusion-nas that wrote it"
        )


def open_storage(url: str, *, create: bool = False) -> "RDBStorage":
    """Optuna's storage with a tuned engine and our tables; ``create`` makes what is missing."""
    path = sqlite_path(url)
    if path is not None and path.is_file():
        _check_writable_database(path, url)
    if not create:
        open_engine(url).dispose()
        return _connect(url)
    if path is not None:
        _make_folder(path, url)
    storage = _connect(url)
    with explained(url), storage.engine.begin() as connection:
        tables.metadata.create_all(connection)
        if connection.scalar(sa.select(sa.func.count()).select_from(tables.schema)) == 0:
            connection.execute(sa.insert(tables.schema).values(version=tables.SCHEMA_VERSION))
    _check_schema(storage.engine, url)
    return storage


@contextmanager
def creation_lock(url: str) -> Iterator[None]:
    """One launcher at a time makes tables and studies: a lock file beside SQLite, an advisory lock in PostgreSQL."""
    path = sqlite_path(url)
    if path is not None:
        _make_folder(path, url)
        with FileLock(f"{path}-lock"):
            yield
        return
    engine = sa.create_engine(_parse(url), poolclass=sa.NullPool)
    with explained(url), engine.connect() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_lock(CREATION_LOCK)))
        yield


def _make_folder(path: Path, url: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{redact(url)}: the folder cannot be made: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK):
        raise StorageError(f"{redact(url)}: the folder {path.parent} is not writable")


def _check_writable_database(path: Path, url: str) -> None:
    """Before anything is written: the file is an SQLite database of ours, of Optuna's, or empty."""
    if not os.access(path, os.W_OK):
        raise StorageError(f"{redact(url)}: the database is read-only; make it writable or copy it elsewhere")
    with explained(url):
        engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
        with engine.connect() as connection:
            ours = sa.inspect(connection).has_table(tables.schema.name)
        if ours:
            _check_schema(engine, url)


def _connect(url: str) -> "RDBStorage":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with explained(url):
        storage = optuna.storages.RDBStorage(url, engine_kwargs=_engine_kwargs(url))
    _tune(storage.engine)
    return storage
