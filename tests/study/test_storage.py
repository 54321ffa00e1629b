"""Databases that cannot be used are refused with one line, and left as they were."""

from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage

from nas.errors import StorageError
from nas.study import tables
from nas.study.records import Study, open_study
from nas.study.storage import close_storage, open_engine, open_storage, redact


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_sqlite_is_tuned(storage: RDBStorage) -> None:
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("hello, this is not a database\n" * 100)
    before = path.read_bytes()
    for create in (False, True):
        with pytest.raises(StorageError, match=r"x\.db: this file is not an SQLite database"):
            open_storage(f"sqlite:///{path}", create=create)
    assert path.read_bytes() == before


def test_a_missing_database_is_not_made_by_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with pytest.raises(StorageError, match=r"no such database"):
        open_engine(f"sqlite:///{path}")
    assert not path.exists()


def test_a_newer_schema_is_refused(stored: Study, storage: RDBStorage) -> None:
    with storage.engine.begin() as connection:
        connection.execute(sa.update(tables.schema).values(version=99))
    for create in (False, True):
        with pytest.raises(StorageError, match=r"database schema 99, this version reads 2"):
            open_storage(stored.url, create=create)


def test_a_database_of_optuna_alone_holds_no_study(url: str) -> None:
    storage = RDBStorage(url)
    optuna.create_study(storage=storage, study_name="theirs")
    close_storage(storage)
    with pytest.raises(StorageError, match=r"holds no fusion-nas study"):
        open_study(url, "theirs")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://u:secret@h/d", "expected a sqlite:/// or postgresql://"),
        ("sqlite://", "a database in memory"),
    ],
)
def test_urls_that_cannot_be_used(url: str, said: str) -> None:
    with pytest.raises(StorageError, match=said) as raised:
        open_engine(url)
    assert "secret" not in str(raised.value)


def test_passwords_are_hidden() -> None:
    assert redact("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
