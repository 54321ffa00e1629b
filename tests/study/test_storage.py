"""Databases that cannot be used are refused with one line, and left as they were."""

from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage

from nas.errors import UserError
from nas.measurement import Interrupted
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.store import tables
from nas.study.store.engine import open_engine
from nas.study.store.errors import connection_lost, survive
from nas.study.store.optuna_storage import TrialStorage, close_storage, make_storage, open_storage
from nas.study.store.reader import Study, open_study
from nas.study.store.urls import file_system, redact

from .conftest import SUMMARY


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_sqlite_is_tuned(storage: RDBStorage) -> None:
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("hello, this is not a database\n" * 100)
    before = path.read_bytes()
    for open_ in (open_storage, make_storage):
        with pytest.raises(UserError, match=r"x\.db: this file is not an SQLite database"):
            open_(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_missing_database_is_not_made_by_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with pytest.raises(UserError, match=r"no such database"):
        open_engine(f"sqlite:///{path}")
    assert not path.exists()


def test_a_newer_schema_is_refused(stored: Study, storage: RDBStorage) -> None:
    with storage.engine.begin() as connection:
        connection.execute(sa.update(tables.schema).values(version=99))
    for open_ in (open_engine, open_storage, make_storage):
        with pytest.raises(UserError, match=rf"database schema 99, this version reads {tables.SCHEMA_VERSION}"):
            open_(stored.url)


def test_a_database_of_optuna_alone_holds_no_study(url: str) -> None:
    storage = RDBStorage(url)
    optuna.create_study(storage=storage, study_name="theirs")
    close_storage(storage)
    with pytest.raises(UserError, match=r"holds no fusion-nas study"):
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
    with pytest.raises(UserError, match=said) as raised:
        open_engine(url)
    assert "secret" not in str(raised.value)


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/me/local xfs rw 0 0
me@host: /mnt/my\\040disk fuse.sshfs rw 0 0
/dev/sdc1 /over ext4 rw 0 0
//server/share /over cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/nas.db", "ext4"),
        ("/home/me/studies/nas.db", "nfs4"),
        ("/home/me/local/new/folder/nas.db", "xfs"),
        ("/mnt/my disk/nas.db", "fuse.sshfs"),
        ("/over/nas.db", "cifs"),
        ("/homeless/nas.db", "ext4"),
    ],
)
def test_the_file_system_of_a_path(tmp_path: Path, path: str, kind: str) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert file_system(Path(path), tmp_path / "mounts") == kind
    assert file_system(Path(path), tmp_path / "none") is None


def test_sqlite_on_a_network_file_system_is_refused_before_anything_is_written(
    tmp_path: Path, config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mounts").write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path}/net nfs rw 0 0\n")
    monkeypatch.setattr("nas.study.store.urls.MOUNTS", tmp_path / "mounts")
    url = f"sqlite:///{tmp_path}/net/studies/nas.db"
    expected = r"lies on a network file system \(nfs\).*use --storage postgresql://"
    with pytest.raises(UserError, match=expected):
        create_study(config, "", url, lambda _: SUMMARY)
    with pytest.raises(UserError, match=expected):
        open_storage(url)
    assert not (tmp_path / "net").exists()
    create_study(config, "", f"sqlite:///{tmp_path}/local/nas.db", lambda _: SUMMARY)


def test_passwords_are_hidden() -> None:
    assert redact("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"


@pytest.mark.parametrize(
    ("kind", "lost"), [("OperationalError", True), ("PendingRollbackError", True), ("IntegrityError", False)]
)
def test_a_lost_server_is_known_behind_what_optuna_makes_of_it(kind: str, lost: bool) -> None:
    """Optuna reads once more, in another way, in a session whose connection has just broken."""
    dbapi = (None, None, Exception()) if kind != "PendingRollbackError" else ("rollback first",)
    error = optuna.exceptions.StorageInternalError("commit")
    error.__cause__ = getattr(sa.exc, kind)(*dbapi)
    assert connection_lost("postgresql://host/db", error) is lost
    assert not connection_lost("sqlite:///nas.db", error)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_connection_that_is_lost_while_another_loss_is_survived(storage: TrialStorage, stored: Study) -> None:
    mended: list[int] = []

    def mend() -> None:
        mended.append(len(mended))
        if len(mended) < 3:
            with storage.engine.begin() as connection:
                connection.execute(sa.select(sa.func.pg_terminate_backend(sa.func.pg_backend_pid())))

    survive(storage.engine, stored.url, mend, lambda: False)
    assert mended == [0, 1, 2]
    mended.clear()
    with pytest.raises(Interrupted):  # told to stop while the server is away
        survive(storage.engine, stored.url, mend, lambda: True)
