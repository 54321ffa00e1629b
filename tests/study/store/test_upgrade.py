"""An older database: upgraded whole or not at all, never by reading, never under workers of the older version."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas.errors import UserError
from nas.study.store import tables
from nas.study.store.engine import bring_up_to_date, disposed, open_engine, writing_engine
from nas.study.store.lock import making_studies
from nas.study.store.optuna_storage import close_storage, make_storage
from nas.study.store.reader import Study, open_study
from nas.study.store.upgrade import UPGRADES, schema_version
from nas.study.store.workers import join

KILLED = """
import os, sys
import sqlalchemy as sa
from nas.study.store.engine import disposed, writing_engine
from nas.study.store.upgrade import upgrade

url, last = sys.argv[1], int(sys.argv[2])
for number in range(last):
    if os.fork() == 0:
        with disposed(writing_engine(url)) as engine:
            done = iter(range(number + 1))

            @sa.event.listens_for(engine, "after_cursor_execute")
            def _kill(*_):
                if next(done) == number:
                    os.kill(os.getpid(), 9)

            upgrade(engine, url)
            os._exit(0)
    _, status = os.wait()
    with sa.create_engine(url).connect() as connection:
        versions = connection.exec_driver_sql("SELECT max(version) FROM nas_schema").scalar()
    print(number, os.WIFSIGNALED(status), versions)
    if not os.WIFSIGNALED(status):
        break
"""


def make_older(url: str, version: int = 5) -> None:
    """Take away what came with schema 6."""
    with disposed(writing_engine(url)) as engine, engine.begin() as connection:
        tables.members.drop(connection)
        for since, statement in UPGRADES:
            if since > version and statement.startswith("ALTER"):
                _, _, table, _, _, name, *_ = statement.split()
                connection.execute(sa.text(f"ALTER TABLE {table} DROP COLUMN {name}"))
        connection.execute(sa.update(tables.schema).values(version=version))


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_an_upgrade_that_is_killed_at_any_statement_changes_nothing(stored: Study) -> None:
    make_older(stored.url)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, stored.url, "99"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in done.splitlines()]
    assert len(rows) > sum(since == tables.SCHEMA_VERSION for since, _ in UPGRADES) + 2
    assert {(killed, version) for _, killed, version in rows[:-1]} == {("True", "5")}
    assert rows[-1][1:] == ["False", str(tables.SCHEMA_VERSION)]
    assert len(open_study(stored.url, "s").trials()) == len(stored.trials())


def test_reading_does_not_upgrade(stored: Study) -> None:
    make_older(stored.url)
    with pytest.raises(UserError, match="database schema 5, this version reads 6; once no worker"):
        open_engine(stored.url)
    with disposed(writing_engine(stored.url)) as engine:
        assert schema_version(engine, stored.url) == 5


def test_workers_of_the_older_version_are_waited_for(stored: Study) -> None:
    with disposed(writing_engine(stored.url)) as engine:
        join(engine, stored.study_id, "old", "cpu")
        make_older(stored.url)
        with pytest.raises(UserError, match="1 workers of the version that wrote it are at work"):
            bring_up_to_date(stored.url)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE nas_workers SET heartbeat_at = :then"), {"then": time.time() - 3600})
        bring_up_to_date(stored.url)
        assert schema_version(engine, stored.url) == tables.SCHEMA_VERSION


def test_making_a_study_in_an_older_database_takes_one_lock(stored: Study) -> None:
    """`nas calibrate` waited for itself here."""
    make_older(stored.url)
    with making_studies(stored.url):
        close_storage(make_storage(stored.url))
    assert open_study(stored.url, "s").trials() == stored.trials()


OLD = Path(__file__).parent / "older"


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_a_database_that_an_older_version_has_written(version: int, tmp_path: Path) -> None:
    """Two studies in each: one that was finished, one whose time was over in between."""
    import sqlite3
    from contextlib import closing

    url = f"sqlite:///{tmp_path / 'nas.db'}"
    with closing(sqlite3.connect(tmp_path / "nas.db")) as database:
        database.executescript((OLD / f"schema-{version}.sql").read_text(encoding="utf-8"))
    bring_up_to_date(url)
    finished, broken_off = open_study(url, "older"), open_study(url, "broken-off")
    assert [t.state for t in finished.trials()].count("complete") >= 3
    assert finished.best() is not None
    assert finished.num_ended() == finished.target == 5
    assert "waiting" in {t.state for t in broken_off.trials()}
    assert shutil.which("sqlite3") is None or broken_off.num_ended() < broken_off.target
