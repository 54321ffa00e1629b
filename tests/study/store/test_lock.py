"""Locks on a database: one a study, bounded, broken off on demand, never taken twice."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nas.errors import StorageError, UserError
from nas.measurement import Interrupted
from nas.study.store import lock
from nas.study.store.lock import drawing, making_studies
from nas.study.store.urls import sqlite_path

HOLD = """
import sys
from nas.study.store.lock import drawing
with drawing(sys.argv[1], 7):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held_by_another_process(url: str) -> Iterator[subprocess.Popen[str]]:
    run = [sys.executable, "-c", HOLD, url]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_one_study_does_not_wait_for_another(url: str) -> None:
    with held_by_another_process(url), drawing(url, 8), making_studies(url):
        pass


def test_who_waits_hears_of_ctrl_c(url: str) -> None:
    asked = iter((False, True))
    with held_by_another_process(url), pytest.raises(Interrupted), drawing(url, 7, lambda: next(asked, True)):
        pytest.fail("two have the lock")


def test_a_lock_that_is_not_given_back_names_who_has_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_LIMIT_S", 0.1)
    with held_by_another_process(url) as process, pytest.raises(StorageError) as raised, drawing(url, 7):
        pytest.fail("two have the lock")
    assert raised.value.exit_code == 1
    holder = f"process {process.pid} " if sqlite_path(url) else "the session "
    assert holder in str(raised.value)
    assert "end it, then type the same command again" in str(raised.value)


def test_the_lock_of_a_killed_process_is_free(url: str) -> None:
    with held_by_another_process(url) as process:
        process.kill()
        process.wait()
        with drawing(url, 7):
            pass


def test_a_lock_taken_twice_is_an_error_instead_of_a_wait_for_oneself(url: str) -> None:
    with making_studies(url), pytest.raises(RuntimeError, match="is taken twice"), making_studies(url):
        pytest.fail("taken twice")
    with making_studies(url):  # it was given back
        pass


def test_threads_exclude_each_other(url: str) -> None:
    inside = threading.Event()

    def draw() -> None:
        with drawing(url, 7):
            inside.set()

    thread = threading.Thread(target=draw)
    with drawing(url, 7):
        thread.start()
        assert not inside.wait(0.3)  # long enough for a thread that does not wait
    thread.join()
    assert inside.is_set()


def test_who_may_use_a_database_may_use_its_locks(tmp_path: Path) -> None:
    database = tmp_path / "nas.db"
    database.touch()
    database.chmod(0o664)
    with drawing(f"sqlite:///{database}", 7):
        assert (tmp_path / "nas.db-lock-7").stat().st_mode & 0o777 == 0o664


@pytest.mark.skipif(os.geteuid() == 0, reason="an administrator may write every file")
def test_a_lock_file_of_somebody_else_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "nas.db-lock-7").touch(0o444)
    with pytest.raises(UserError, match="its owner has to run: chmod"), drawing(f"sqlite:///{tmp_path / 'nas.db'}", 7):
        pytest.fail("locked a file that cannot be written")
