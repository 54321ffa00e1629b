"""What PostgreSQL refuses is one line for the user, and never tells a password."""

from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

import optuna
import psycopg
import pytest

from nas.errors import NasError, StorageError, UserError
from nas.space.landmarks import LANDMARKS
from nas.study.config import StudyConfig
from nas.study.launch import processes
from nas.study.launch.create import create_study
from nas.study.store.engine import open_engine
from nas.study.store.optuna_storage import close_storage, open_storage
from nas.study.store.reader import Study, open_study
from nas.study.store.tables import SCHEMA_VERSION
from nas.study.store.trials import Ledger
from nas.study.store.workers import join
from tests.postgres import Server

from .conftest import SUMMARY
from .test_crash import LIMIT_S

SECRET = "hunter2-and-more"
Attempt = Callable[[str], object]


def create(url: str) -> Study:
    return create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY)


ATTEMPTS = [create, open_engine, open_storage]


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_unreachable_host(attempt: Attempt) -> None:
    with pytest.raises(StorageError, match=r"postgresql://me:\*\*\*@127.0.0.1:1/x: .*[Cc]onnection") as raised:
        attempt(f"postgresql://me:{SECRET}@127.0.0.1:1/x")
    said(raised.value, exit_code=1)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_host_that_does_not_exist(attempt: Attempt) -> None:
    with pytest.raises(StorageError, match=r"postgresql://me:\*\*\*@no-such-host.invalid/x: ") as raised:
        attempt(f"postgresql://me:{SECRET}@no-such-host.invalid/x")
    said(raised.value, exit_code=1)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_wrong_password(postgres_server: Server, attempt: Attempt) -> None:
    url = postgres_server.url()
    with postgres_server.demanding_passwords():
        with pytest.raises(UserError, match=r"password authentication failed for user \"nas\"") as raised:
            attempt(url.replace("nas@", f"nas:{SECRET}@"))
        said(raised.value)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_database_that_does_not_exist(postgres_server: Server, attempt: Attempt) -> None:
    with pytest.raises(UserError, match=r"database \"nowhere\" does not exist") as raised:
        attempt(postgres_server.url().rpartition("/")[0] + "/nowhere")
    said(raised.value)


def test_a_user_without_rights(postgres_server: Server) -> None:
    url = postgres_server.url()
    create(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")
    guest = url.replace("nas@", "guest@")
    for attempt in (create, lambda url: open_study(url, "s")):
        with pytest.raises(UserError, match=r"permission denied.*GRANT") as raised:
            attempt(guest)
        said(raised.value)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest")
        connection.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO guest")
    storage = open_storage(guest)  # what a worker needs
    trial = optuna.load_study(study_name="s", storage=storage).ask()
    ledger = Ledger(storage.engine, open_study(guest, "s").study_id, "w")
    join(storage.engine, ledger.study_id, ledger.worker_id, "cpu")
    assert ledger.lease(trial._trial_id)
    close_storage(storage)
    empty = postgres_server.url().replace("nas@", "guest@")
    with pytest.raises(UserError, match=r"permission denied.*GRANT") as raised:
        create(empty)
    said(raised.value)


def test_another_schema(postgres_server: Server) -> None:
    """Tables of our names that are not ours, and a version that is not this one's."""
    url = postgres_server.url()
    create(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE nas_schema SET version = 99")
    for attempt in ATTEMPTS:
        with pytest.raises(UserError, match=rf"database schema 99, this version reads {SCHEMA_VERSION}"):
            attempt(url)


def said(error: NasError, exit_code: int = 2) -> None:
    assert error.exit_code == exit_code
    assert len(str(error).splitlines()) == 1
    assert SECRET not in str(error)


def launch(url: str, start: Barrier, ids: SimpleQueue[int]) -> None:
    start.wait(LIMIT_S)
    ids.put(create(url).study_id)


def test_of_launchers_that_start_at_once_one_creates_and_the_others_join(url: str) -> None:
    start, ids = processes.CONTEXT.Barrier(3), processes.CONTEXT.SimpleQueue()
    launchers = [processes.start(launch, url, start, ids) for _ in range(3)]
    for launcher in launchers:
        launcher.join()
    assert [launcher.exitcode for launcher in launchers] == [0, 0, 0]
    assert len({ids.get() for _ in launchers}) == 1
    assert len(open_study(url, "s").trials()) == len(LANDMARKS)
