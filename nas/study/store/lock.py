"""One process at a time makes tables and studies, or takes a trial."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from filelock import FileLock

from nas.study.store.errors import explained
from nas.study.store.urls import check_driver, make_folder, parse_url, sqlite_path

LOCK_POLL_S = 0.02
"""How often a worker tries to get the lock file while another one has it."""


EXCLUSIVE_LOCK = 0x6E6173
"""Number of PostgreSQL's advisory lock: `nas` in ASCII."""


@contextmanager
def exclusive(url: str) -> Iterator[None]:
    """One process at a time makes tables and studies, or takes a trial; the lock of one that dies is free.

    A lock file beside an SQLite database, an advisory lock in PostgreSQL.
    """
    path = sqlite_path(url)
    if path is not None:
        make_folder(path, url)
        with FileLock(f"{path}-lock", poll_interval=LOCK_POLL_S):
            yield
        return
    check_driver(url)
    engine = sa.create_engine(parse_url(url), poolclass=sa.NullPool)
    with explained(url), engine.connect() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_lock(EXCLUSIVE_LOCK)))
        yield
