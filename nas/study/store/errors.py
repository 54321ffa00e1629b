"""What a database's own errors mean: one line for people, and whether a server may come back."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from nas.errors import NasError, StorageError, UserError
from nas.measurement import Interrupted
from nas.study.store.urls import redact, sqlite_path, without_secrets

RECONNECT_S = 300
"""How long a worker waits for a database server that went away."""
BUSY_TIMEOUT_S = 60
"""How long SQLite waits for another transaction."""
CONNECTION_LOST = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.PendingRollbackError)
"""The last where Optuna tries once more in a session whose connection has broken."""

_CHOICES = {
    "file is not a database": "this file is not an SQLite database; choose another path",
    "readonly database": "the database is read-only; make it writable or copy it with `nas backup`",
    "unable to open database file": "the file cannot be opened; check the folder and its permissions",
    "permission denied": "{cause}; the database's owner has to GRANT it",
    "password authentication failed": "{cause}",
    'FATAL:  database "': "{cause}",
    'FATAL:  role "': "{cause}",
}
"""By what a database says where it cannot be the one that was meant."""
_FAILURES = {
    "disk is full": "the disk is full; free some space and type the same command again",
    "database is locked": f"another program has locked the database for over {BUSY_TIMEOUT_S} s; stop it",
    "malformed": "the database is damaged; restore it from a backup",
}
"""By what a database says where it fails."""


def explain(url: str, error: Exception) -> NasError:
    """One line for a database that cannot be used: `UserError` where another must be chosen, else `StorageError`."""
    cause = without_secrets(str(getattr(error, "orig", error)).strip().splitlines()[0], url)
    for key, text in _CHOICES.items():
        if key in cause:
            return UserError(f"{redact(url)}: {text.format(cause=cause)}")
    return StorageError(f"{redact(url)}: {next((text for key, text in _FAILURES.items() if key in cause), cause)}")


def database_error(error: BaseException | None) -> sa.exc.DBAPIError | sqlite3.Error | None:
    """The database's own error behind an error: Optuna wraps it in a StorageInternalError."""
    found = (one for one in _causes(error) if isinstance(one, (sa.exc.DBAPIError, sqlite3.Error)))
    return next(found, None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn database errors inside the block into what `explain` says of them; all others pass."""
    try:
        yield
    except Exception as error:  # Optuna wraps database errors in its own; what is none of them goes on
        found = database_error(error)
        if found is None:
            raise
        raise explain(url, found) from error


def connection_lost(url: str, error: BaseException) -> bool:
    """Whether a database server went away; a file does not come back by waiting."""
    return sqlite_path(url) is None and any(isinstance(one, CONNECTION_LOST) for one in _causes(error))


def survive(engine: sa.Engine, url: str, mend: Callable[[], None], should_stop: Callable[[], bool]) -> None:
    """Wait for a database server that went away, then ``mend`` what was held; it may go away again meanwhile.

    Raises:
        Interrupted: told to stop.
        StorageError: it was away for `RECONNECT_S`, or did not let ``mend`` through for as long.
    """
    pause, end = 0.25, time.monotonic() + RECONNECT_S
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(sa.select(sa.literal(1)))
            mend()
        except Exception as error:  # what is no lost connection goes on
            if not connection_lost(url, error):
                raise
            if time.monotonic() + pause > end:
                raise explain(url, database_error(error) or error) from error
        else:
            return
        if should_stop():
            raise Interrupted
        time.sleep(pause)
        pause = min(2 * pause, 8.0)
