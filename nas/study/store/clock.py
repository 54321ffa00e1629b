"""The one clock of a study: its database's."""

import time

import sqlalchemy as sa


def clock(connection: sa.Connection) -> float:
    """Seconds since 1970 by the clock that all workers on this database share: the server's, for a file this host's."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.scalar(sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))) or 0)


def clock_skew_s(engine: sa.Engine) -> float:
    """How far this machine's clock is ahead of the database server's; 0 for SQLite."""
    if engine.dialect.name == "sqlite":
        return 0.0
    with engine.connect() as connection:
        return time.time() - clock(connection)
