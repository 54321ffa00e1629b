"""Locks on a database: one process at a time makes studies, and one draws the next trial of a study.

A lock file beside an SQLite database, an advisory lock in PostgreSQL: the lock of a process that dies is free.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path

import sqlalchemy as sa
from filelock import FileLock, Timeout

from nas.documents import give_group, sticky
from nas.errors import StorageError, UserError
from nas.measurement import Interrupted
from nas.study.store.errors import explained
from nas.study.store.urls import check_driver, make_folder, parse_url, redact, sqlite_path

LOCK_POLL_S = 0.02
"""How often a worker tries to get a lock file while another one has it."""
LOCK_LIMIT_S = 300.0
"""How long anybody waits for a lock. It is held for some milliseconds at a time."""
ADVISORY = 0x6E6173
"""First number of PostgreSQL's advisory locks: `nas` in ASCII. The second is the study, 0 while studies are made."""
MAKING = 0

_held: ContextVar[frozenset[tuple[str, int]]] = ContextVar("held", default=frozenset())


def _never() -> bool:
    return False


def making_studies(url: str) -> AbstractContextManager[None]:
    """While inside, no other process makes or removes tables or studies of this database."""
    return _exclusive(url, MAKING, _never)


def drawing(url: str, study_id: int, should_stop: Callable[[], bool] = _never) -> AbstractContextManager[None]:
    """While inside, no other process draws a trial of this study, or puts one back that nobody holds.

    Raises `nas.measurement.Interrupted` where ``should_stop`` says so while another has the lock.
    """
    return _exclusive(url, study_id, should_stop)


@contextmanager
def _exclusive(url: str, number: int, should_stop: Callable[[], bool]) -> Iterator[None]:
    key, before = (url, number), _held.get()
    if key in before:
        raise RuntimeError(f"lock {number} of {redact(url)} is taken twice")  # it would wait for itself
    path = sqlite_path(url)
    with _file_lock(url, path, number, should_stop) if path else _advisory_lock(url, number, should_stop):
        token = _held.set(before | {key})
        try:
            yield
        finally:
            _held.reset(token)


@contextmanager
def _file_lock(url: str, path: Path, number: int, should_stop: Callable[[], bool]) -> Iterator[None]:
    make_folder(path, url)
    file = Path(f"{path}-lock" if number == MAKING else f"{path}-lock-{number}")
    mode = path.stat().st_mode & 0o666 if path.exists() else -1  # who may use the database may use its locks
    lock = FileLock(file, mode=mode, poll_interval=LOCK_POLL_S)
    try:
        lock.acquire(timeout=LOCK_LIMIT_S, cancel_check=should_stop)
    except Timeout:
        if should_stop():
            raise Interrupted from None
        raise _not_given(url, f"process {_holder(file) or '(unknown)'}") from None
    except PermissionError:
        why = sticky(file) or f"not writable for this account; its owner has to run: chmod a+rw {file}"
        raise UserError(f"{file}: {why}") from None
    try:
        if path.exists():
            give_group(file, path.stat().st_gid)
        yield
    finally:
        lock.release()


def _holder(file: Path) -> str | None:
    """Number of the process that has locked a file; None where the system does not tell (man 5 proc_locks)."""
    try:
        inode, lines = file.stat().st_ino, Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    held = (line.split() for line in lines if "->" not in line)
    return next((fields[4] for fields in held if fields[5].endswith(f":{inode}")), None)


@contextmanager
def _advisory_lock(url: str, number: int, should_stop: Callable[[], bool]) -> Iterator[None]:
    """PostgreSQL's queue is fair: each turn waits there for a second before it asks whether to go on waiting."""
    check_driver(url)
    engine = sa.create_engine(parse_url(url), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    numbers = {"first": ADVISORY, "second": number}
    with explained(url), engine.connect() as connection:
        connection.exec_driver_sql("SET lock_timeout = '1s'")
        end = time.monotonic() + LOCK_LIMIT_S
        while True:
            try:
                connection.execute(sa.text("SELECT pg_advisory_lock(:first, :second)"), numbers)
                break
            except sa.exc.OperationalError as error:
                if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
                    raise
            if should_stop():
                raise Interrupted
            if time.monotonic() > end:
                raise _not_given(url, _session(connection, numbers))
        yield
        connection.execute(sa.text("SELECT pg_advisory_unlock(:first, :second)"), numbers)  # fails if it was lost


def _session(connection: sa.Connection, numbers: dict[str, int]) -> str:
    """The session that has an advisory lock."""
    query = sa.text(
        "SELECT a.pid, a.client_addr, a.state_change FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
        "WHERE l.locktype = 'advisory' AND l.classid = :first AND l.objid = :second AND l.granted"
    )
    row = connection.execute(query, numbers).first()
    return f"the session {row.pid} from {row.client_addr or 'this host'}" if row else "a session that has just ended"


def _not_given(url: str, holder: str) -> StorageError:
    return StorageError(
        f"{redact(url)}: {holder} has held a lock for over {LOCK_LIMIT_S:.0f} s; end it, then type the same command "
        "again"
    )
