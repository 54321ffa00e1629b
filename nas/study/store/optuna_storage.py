"""Optuna's storage, whose reads do not wait for those who write."""

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from nas.errors import StorageError
from nas.study.optuna_private import ReadByUs, create_tables
from nas.study.store import tables
from nas.study.store.engine import engine_arguments, only_reading, open_engine, tune
from nas.study.store.errors import BUSY_TIMEOUT_S, explained
from nas.study.store.optuna_trials import read_trial, read_trials
from nas.study.store.upgrade import check_schema
from nas.study.store.urls import check_driver, make_folder, parse_url, redact, refuse_network, sqlite_path


class TrialStorage(ReadByUs):
    """Reads trials beside a transaction that writes; Optuna's own code does both in one kind of session."""

    def __init__(self, url: str, **arguments: Any) -> None:
        super().__init__(url, **arguments)
        self._reopened: set[int] = set()

    def read_again(self, trial_ids: Collection[int]) -> None:
        """Forget what these trials were: Optuna's memory of a study never looks again at one that had ended."""
        self._reopened |= set(trial_ids)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """One trial as it is stored."""
        with only_reading(), self.engine.connect() as connection:
            return read_trial(connection, trial_id)

    def read_trials(self, study_id: int, *, beyond: int, also: Collection[int]) -> list[FrozenTrial]:
        """As the base class says, and once those that are to be read again."""
        reopened = set(self._reopened)
        with only_reading(), self.engine.connect() as connection:
            trials = read_trials(connection, study_id, beyond=beyond, also=reopened.union(also))
        if beyond >= 0:  # the memory asks; whoever reads a study from its beginning may be another
            self._reopened -= reopened
        return trials


def open_storage(url: str, *, create: bool = False) -> TrialStorage:
    """Optuna's storage with a tuned engine and our tables; ``create`` makes what is missing."""
    path = sqlite_path(url)
    if path is not None:
        refuse_network(path, url)
    if path is not None and path.is_file() and not os.access(path, os.W_OK):
        raise StorageError(f"{redact(url)}: the database is read-only; make it writable or copy it elsewhere")
    if not create:
        open_engine(url)
        return _connect(url)
    if path is None or path.is_file():
        _check_before_creation(url)
    if path is not None:
        make_folder(path, url)
    with explained(url):
        _create_tables(url)
    return _connect(url)


def _create_tables(url: str) -> None:
    """Make what is missing of our tables and of Optuna's, in one transaction: each would wait for the disk."""
    engine = sa.create_engine(parse_url(url), **engine_arguments(url))
    tune(engine)
    with _disposed(engine), engine.begin() as connection:
        tables.metadata.create_all(connection)
        create_tables(connection)
        if connection.scalar(sa.select(sa.func.count()).select_from(tables.schema)) == 0:
            connection.execute(sa.insert(tables.schema).values(version=tables.SCHEMA_VERSION))


@contextmanager
def _disposed(engine: sa.Engine) -> Iterator[None]:
    """Close the engine's connections at the end, also where that is an error."""
    try:
        yield
    finally:
        engine.dispose()


def close_storage(storage: RDBStorage) -> None:
    """Give the connections of a storage back."""
    storage.remove_session()
    storage.engine.dispose()


def _check_before_creation(url: str) -> None:
    """Before anything is written: the database can be read, and holds no tables of another version of ours."""
    if sqlite_path(url) is None:
        check_driver(url)
    engine = sa.create_engine(parse_url(url), poolclass=sa.NullPool)
    with explained(url):
        with engine.connect() as connection:
            ours = sa.inspect(connection).has_table(tables.schema.name)
        if ours:
            check_schema(engine, url)


def _connect(url: str) -> TrialStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with explained(url):
        storage = TrialStorage(url, engine_kwargs=engine_arguments(url))
    tune(storage.engine)
    return storage


def read_only_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage on an existing database; connections to SQLite cannot write."""
    path = sqlite_path(url)
    if path is None:
        return open_storage(url)
    uri = f"{path.resolve().as_uri()}?mode=ro"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)

    with explained(url):
        return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": sa.NullPool})
