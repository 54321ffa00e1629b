"""Opening a study database: SQLite tuned for several workers, PostgreSQL for several machines.

Reading commands use `open_engine` and never import optuna; `open_storage` adds Optuna's own storage on top.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import sqlalchemy as sa

from nas.errors import UserError
from nas.study.store import tables
from nas.study.store.errors import BUSY_TIMEOUT_S, explained
from nas.study.store.lock import making_studies
from nas.study.store.upgrade import require_present, schema_version, upgrade
from nas.study.store.urls import check_driver, parse_url, redact, sqlite_path

_only_reads = ContextVar("only_reads", default=False)


def engine_arguments(url: str) -> dict[str, Any]:
    """What `sqlalchemy.create_engine` is to be given beside the URL, for an engine that writes."""
    if sqlite_path(url) is None:
        check_driver(url)
        return {"pool_pre_ping": True, "pool_size": 2, "max_overflow": 2}
    return {"connect_args": {"timeout": BUSY_TIMEOUT_S, "isolation_level": None, "check_same_thread": False}}


def tune(engine: sa.Engine) -> None:
    """SQLite: write-ahead log, and every transaction takes the write lock at its start unless it only reads.

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
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if _only_reads.get() else "BEGIN IMMEDIATE")

    engine.dispose()


@contextmanager
def only_reading() -> Iterator[None]:
    """Transactions that begin in the block write nothing: they need not wait for those that do."""
    token = _only_reads.set(True)
    try:
        yield
    finally:
        _only_reads.reset(token)


def open_engine(url: str) -> sa.Engine:
    """An engine on an existing study database, for reading: nothing is made or upgraded.

    Raises:
        UserError: there is none, or one of another version.
    """
    engine = _existing(url)
    with explained(url):
        require_present(engine, url)
    return engine


def _existing(url: str) -> sa.Engine:
    path = sqlite_path(url)
    if path is None:
        check_driver(url)
        return sa.create_engine(parse_url(url), poolclass=sa.NullPool)
    if not path.is_file():
        raise UserError(f"{redact(url)}: no such database; `nas search` creates one")
    mode = "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False),
        poolclass=sa.NullPool,
    )


def writing_engine(url: str) -> sa.Engine:
    """A tuned engine, which makes a database that does not exist. Dispose of it."""
    engine = sa.create_engine(parse_url(url), **engine_arguments(url))
    tune(engine)
    return engine


def bring_up_to_date(url: str) -> None:
    """Upgrade an existing database of an older version; not while this thread makes studies."""
    engine = _existing(url)
    with explained(url):
        if schema_version(engine, url) == tables.SCHEMA_VERSION:
            return
        with making_studies(url), disposed(writing_engine(url)) as writer:
            upgrade(writer, url)


@contextmanager
def disposed(engine: sa.Engine) -> Iterator[sa.Engine]:
    """Close the engine's connections at the end, also where that is an error."""
    try:
        yield engine
    finally:
        engine.dispose()
