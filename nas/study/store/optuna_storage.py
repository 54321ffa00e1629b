"""Optuna's storage, whose reads do not wait for those who write."""

import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.orm import Session, SessionTransaction

from nas.errors import UserError
from nas.study.goals import Direction
from nas.study.optuna_private import ReadByUs, create_tables
from nas.study.store import tables
from nas.study.store.engine import (
    bring_up_to_date,
    disposed,
    engine_arguments,
    only_reading,
    open_engine,
    tune,
    writing_engine,
)
from nas.study.store.errors import BUSY_TIMEOUT_S, explained
from nas.study.store.leases import require_lease
from nas.study.store.optuna_trials import read_trial, read_trials
from nas.study.store.upgrade import NoStudies, schema_version, upgrade
from nas.study.store.urls import make_folder, optuna_url, redact, refuse_network, sqlite_path

OURS_ATTR = "fusion-nas"
"""Attribute of Optuna studies that this package has made: the version of its tables."""


class TrialStorage(ReadByUs):
    """Reads trials beside a transaction that writes; Optuna's own code does both in one kind of session.

    What it writes inside `fenced` takes effect only while the worker holds the trial's lease.
    """

    def __init__(self, url: str) -> None:
        super().__init__(optuna_url(url), engine_kwargs=engine_arguments(url))
        tune(self.engine)
        self._fence: ContextVar[tuple[int, str] | None] = ContextVar("fence", default=None)
        sa.event.listen(self.scoped_session, "after_begin", self._check)
        self._reopened: set[int] = set()

    def _check(self, _session: Session, _transaction: SessionTransaction, connection: sa.Connection) -> None:
        if (fence := self._fence.get()) is not None:
            require_lease(connection, *fence)

    @contextmanager
    def fenced(self, trial_id: int, worker_id: str) -> Iterator[None]:
        """Inside, every transaction of Optuna's begins with the lock on the lease; `LeaseLost` where it is gone."""
        token = self._fence.set((trial_id, worker_id))
        try:
            yield
        finally:
            self._fence.reset(token)

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


def open_storage(url: str) -> TrialStorage:
    """Optuna's storage on an existing study database, with a tuned engine; an older database is upgraded.

    Raises:
        UserError: there is none, it cannot be written, or another version is needed.
    """
    path = sqlite_path(url)
    if path is not None:
        refuse_network(path, url)
        _refuse_read_only(path, url)
    bring_up_to_date(url)
    return _connect(url)


def make_storage(url: str, *, force: bool = False) -> TrialStorage:
    """As `open_storage`, but what is missing of the database and its tables is made; inside `making_studies`.

    Args:
        force: also in a database that holds tables of others.
    """
    path = sqlite_path(url)
    if path is not None:
        _refuse_read_only(path, url)
        make_folder(path, url)
    with explained(url), disposed(writing_engine(url)) as engine:
        if path is None or path.is_file():
            _look_before_making(engine, url, force=force)
        with engine.begin() as connection:  # in one transaction: each would wait for the disk
            tables.metadata.create_all(connection)
            create_tables(connection)
            if connection.scalar(sa.select(sa.func.count()).select_from(tables.schema)) == 0:
                connection.execute(sa.insert(tables.schema).values(version=tables.SCHEMA_VERSION))
    return _connect(url)


def _look_before_making(engine: sa.Engine, url: str, *, force: bool) -> None:
    """Upgrade a database of ours; refuse one that holds only tables of others."""
    try:
        if schema_version(engine, url) < tables.SCHEMA_VERSION:
            upgrade(engine, url)
    except NoStudies:
        with engine.connect() as connection:
            theirs = sorted(sa.inspect(connection).get_table_names())
        if theirs and not force:
            raise UserError(
                f"{redact(url)}: holds {len(theirs)} tables of another program ({', '.join(theirs[:3])}, ...); choose "
                "another database, or add the tables of fusion-nas to it with --force"
            ) from None


def _refuse_read_only(path: Path, url: str) -> None:
    if path.is_file() and not os.access(path, os.W_OK):
        raise UserError(f"{redact(url)}: the database is read-only; make it writable or copy it elsewhere")


def make_optuna_study(storage: RDBStorage, name: str, directions: Sequence[Direction]) -> optuna.Study:
    """Optuna's study beside one of ours: a new one, or one that a crash has left half-made.

    Raises:
        UserError: somebody else's has this name.
    """
    study = optuna.create_study(study_name=name, storage=storage, directions=list(directions), load_if_exists=True)
    if OURS_ATTR not in study.user_attrs:
        if study.get_trials(deepcopy=False) or [way.name.lower() for way in study.directions] != list(directions):
            raise UserError(
                f"name: {redact(storage.url)} holds a study {name!r} that fusion-nas has not made; choose another "
                "name, or delete that study with optuna delete-study"
            )
        study.set_user_attr(OURS_ATTR, tables.SCHEMA_VERSION)
    return study


def close_storage(storage: RDBStorage) -> None:
    """Give the connections of a storage back."""
    storage.remove_session()
    storage.engine.dispose()


def _connect(url: str) -> TrialStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with explained(url):
        try:
            return TrialStorage(url)
        except RuntimeError as error:
            raise UserError(f"{redact(url)}: {' '.join(str(error).split())}") from error


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
