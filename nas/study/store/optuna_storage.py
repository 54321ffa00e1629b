"""Optuna's storage, whose reads do not wait for those who write."""

import os
import sqlite3
from collections.abc import Container, Iterator
from contextlib import contextmanager

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from nas.errors import StorageError
from nas.study.store import tables
from nas.study.store.engine import engine_arguments, only_reading, open_engine, tune
from nas.study.store.errors import BUSY_TIMEOUT_S, explained
from nas.study.store.upgrade import check_schema
from nas.study.store.urls import (
    check_driver,
    make_folder,
    optuna_url,
    parse_url,
    redact,
    refuse_network,
    sqlite_path,
)


class TrialStorage(RDBStorage):
    """Reads trials beside a transaction that writes; Optuna's own code does both in one kind of session."""

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """One trial as it is stored."""
        with only_reading():
            return super().get_trial(trial_id)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        with only_reading():
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)


def open_storage(url: str, *, create: bool = False) -> RDBStorage:
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
        models.BaseModel.metadata.create_all(connection)
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


def _connect(url: str) -> RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with explained(url):
        storage = TrialStorage(optuna_url(url), engine_kwargs=engine_arguments(url))
    tune(storage.engine)
    return storage


def read_only_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage on an existing database through connections that cannot write.

    SQLite's file is opened for reading alone, every transaction of PostgreSQL is begun as ``READ ONLY``. The tables
    are there, so Optuna need not make any.
    """
    open_engine(url)
    path = sqlite_path(url)
    if path is None:
        arguments = {"execution_options": {"postgresql_readonly": True}, "poolclass": sa.NullPool}
        with explained(url):
            return RDBStorage(optuna_url(url), engine_kwargs=arguments, skip_table_creation=True)
    uri = f"{path.resolve().as_uri()}?mode=ro"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)

    with explained(url):
        return RDBStorage(
            "sqlite://", engine_kwargs={"creator": connect, "poolclass": sa.NullPool}, skip_table_creation=True
        )
