"""Opening a study database: SQLite tuned for several workers, PostgreSQL for several machines.

Reading commands use `open_engine` and never import optuna; `open_storage` adds Optuna's own storage on top.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import sqlalchemy as sa

from nas.errors import StorageError
from nas.study.store.errors import BUSY_TIMEOUT_S, explained
from nas.study.store.upgrade import check_schema
from nas.study.store.urls import check_driver, parse_url, redact, sqlite_path

_only_reads = ContextVar("only_reads", default=False)


def engine_arguments(url: str) -> dict[str, Any]:
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


def clock(connection: sa.Connection) -> float:
    """Seconds since 1970 by the clock that all workers on this database share: the server's, for a file this host's."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.scalar(sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))) or 0)


def clock_skew_s(engine: sa.Engine) -> float:
    """How far this machine's clock is ahead of the database server's; 0 for SQLite."""
    if engine.dialect.name == "sqlite":
        return 0.0
    with engine.connect() as connection:
        return time.time() - clock(connection)


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
        check_driver(url)
        engine = sa.create_engine(parse_url(url), poolclass=sa.NullPool)
    with explained(url):
        check_schema(engine, url)
    return engine
