"""Opening a study database: SQLite tuned for several workers, PostgreSQL for several machines.

Reading commands use `open_engine` and never import optuna; `open_storage` adds Optuna's own storage on top.
"""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from filelock import FileLock

from nas.errors import StorageError
from nas.study.store import tables

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

DEFAULT_URL = "sqlite:///studies/nas.db"
STORAGE_VARIABLE = "FUSION_NAS_STORAGE"
"""Environment variable that names the database where `--storage` does not."""
BUSY_TIMEOUT_S = 60
RECONNECT_S = 300
"""How long a worker waits for a database server that went away."""
MOUNTS = Path("/proc/mounts")
"""Where Linux lists its file systems; elsewhere they are not known."""
NETWORK_FILE_SYSTEMS = re.compile(
    r"(fuse\.)?(afs|beegfs|ceph|cifs|coda|cvmfs|davfs|gcsfuse|gfs2|glusterfs|gpfs|juicefs|lustre|mfs|ncpfs|nfs4?|"
    r"ocfs2|orangefs|panfs|pvfs2|rclone|s3fs|smb3|smbfs|sshfs|wekafs)"
)
"""SQLite's locks and its shared-memory index do not hold on these (https://www.sqlite.org/wal.html)."""
UPGRADES = (
    (2, "ALTER TABLE nas_studies ADD COLUMN candidates_of INTEGER"),
    (3, "ALTER TABLE nas_studies ADD COLUMN confirms INTEGER"),
    (4, "ALTER TABLE nas_epochs ADD COLUMN val_top5 FLOAT"),
    (4, "ALTER TABLE nas_epochs ADD COLUMN val_macro_f1 FLOAT"),
    (4, "ALTER TABLE nas_epochs ADD COLUMN val_balanced_accuracy FLOAT"),
    (5, "ALTER TABLE nas_studies ADD COLUMN clock_ms FLOAT"),
)
"""By the version that brought it; new tables need none."""
CONNECTION_LOST = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.PendingRollbackError)
"""The last where Optuna tries once more in a session whose connection has broken."""
LOCK_POLL_S = 0.02
"""How often a worker tries to get the lock file while another one has it."""
EXCLUSIVE_LOCK = 0x6E6173
"""Number of PostgreSQL's advisory lock: `nas` in ASCII."""
_only_reads = ContextVar("only_reads", default=False)


def redact(url: str) -> str:
    """The URL with its password hidden."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "the given storage URL"


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise StorageError(
            "--storage: not a database URL; expected sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise StorageError(f"{redact(url)}: expected a sqlite:/// or postgresql:// URL")
    if parsed.get_backend_name() == "sqlite" and not parsed.database:
        raise StorageError(f"{redact(url)}: expected sqlite:///PATH; a database in memory cannot be shared")
    return parsed


def sqlite_path(url: str) -> Path | None:
    """The database file of a SQLite URL, None for a server."""
    parsed = _parse(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def _engine_kwargs(url: str) -> dict[str, Any]:
    if sqlite_path(url) is None:
        _check_driver(url)
        return {"pool_pre_ping": True, "pool_size": 2, "max_overflow": 2}
    return {"connect_args": {"timeout": BUSY_TIMEOUT_S, "isolation_level": None, "check_same_thread": False}}


def _check_driver(url: str) -> None:
    try:
        _parse(url).get_dialect().import_dbapi()
    except ImportError as error:
        raise StorageError(
            f"{redact(url)}: the driver {error.name} is not installed; install it with: "
            "uv pip install 'fusion-nas[postgres]'"
        ) from None


def _tune(engine: sa.Engine) -> None:
    """SQLite: write-ahead log, and every transaction takes the write lock at its start unless it only reads.

    pysqlite's deferred transactions let two workers read the same waiting trial and both claim it;
    ``BEGIN IMMEDIATE`` serialises them (https://docs.sqlalchemy.org/dialects/sqlite.html#pysqlite-serializable).
    """
    if engine.dialect.name != "sqlite":
        return

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if _only_reads.get() else "BEGIN IMMEDIATE")

    engine.dispose()


def _explain(url: str, error: Exception) -> StorageError:
    """One line for a database that cannot be used."""
    cause = str(getattr(error, "orig", error)).strip().splitlines()[0]
    hints = {
        "file is not a database": "this file is not an SQLite database; choose another path",
        "readonly database": "the database is read-only; make it writable or copy it with `nas backup`",
        "unable to open database file": "the file cannot be opened; check the folder and its permissions",
        "disk is full": "the disk is full; free some space and type the same command again",
        "database is locked": f"another program has locked the database for over {BUSY_TIMEOUT_S} s; stop it",
        "malformed": "the database is damaged; restore it from a backup",
        "permission denied": f"{cause}; the database's owner has to GRANT it",
    }
    hint = next((text for key, text in hints.items() if key in cause), cause)
    return StorageError(f"{redact(url)}: {hint}")


@contextmanager
def only_reading() -> Iterator[None]:
    """Transactions that begin in the block write nothing: they need not wait for those that do."""
    token = _only_reads.set(True)
    try:
        yield
    finally:
        _only_reads.reset(token)


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
    """Turn database errors inside the block into a one-line `StorageError`; all others pass."""
    try:
        yield
    except Exception as error:  # Optuna wraps database errors in its own; what is none of them goes on
        found = database_error(error)
        if found is None:
            raise
        raise _explain(url, found) from error


def connection_lost(url: str, error: BaseException) -> bool:
    """Whether a database server went away; a file does not come back by waiting."""
    return sqlite_path(url) is None and any(isinstance(one, CONNECTION_LOST) for one in _causes(error))


def wait_for_database(engine: sa.Engine, url: str) -> None:
    """Try to connect with growing pauses, `RECONNECT_S` in all; `StorageError` where that was in vain."""
    pause, end = 0.25, time.monotonic() + RECONNECT_S
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(sa.select(sa.literal(1)))
        except sa.exc.OperationalError as error:
            if time.monotonic() + pause > end:
                raise _explain(url, error) from error
            time.sleep(pause)
            pause = min(2 * pause, 8.0)
        else:
            return


def clock(connection: sa.Connection) -> float:
    """Seconds since 1970 by the clock that all workers on this database share: the server's, for a file this host's."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.scalar(sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))) or 0)


def open_engine(url: str) -> sa.Engine:
    """An engine on an existing study database, for reading; raises `StorageError` where there is none."""
    path = sqlite_path(url)
    if path is not None and not path.is_file():
        raise StorageError(f"{redact(url)}: no such database; `nas search` creates one")
    if path is not None:
        mode = "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
        uri = f"{path.resolve().as_uri()}?mode={mode}"
        engine = sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False),
            poolclass=sa.NullPool,
        )
    else:
        _check_driver(url)
        engine = sa.create_engine(_parse(url), poolclass=sa.NullPool)
    with explained(url):
        _check_schema(engine, url)
    return engine


def _check_schema(engine: sa.Engine, url: str) -> None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(tables.schema.name):
            raise StorageError(f"{redact(url)}: holds no fusion-nas study; `nas search` creates one")
        version = connection.scalar(sa.select(sa.func.max(tables.schema.c.version)))
    if version == tables.SCHEMA_VERSION:
        return
    if version is None or version > tables.SCHEMA_VERSION:
        raise StorageError(
            f"{redact(url)}: database schema {version}, this version reads {tables.SCHEMA_VERSION}; "
            "use the version of fusion-nas that wrote it"
        )
    with exclusive(url):
        _upgrade(engine)


def _upgrade(engine: sa.Engine) -> None:
    """Bring an older database to the present schema, in one transaction."""
    with engine.begin() as connection:
        version = connection.scalar(sa.select(sa.func.max(tables.schema.c.version)))
        if version is None or version == tables.SCHEMA_VERSION:  # another process was faster
            return
        tables.metadata.create_all(connection)
        for since, statement in UPGRADES:
            if version < since:
                connection.execute(sa.text(statement))
        connection.execute(sa.insert(tables.schema).values(version=tables.SCHEMA_VERSION))


def open_storage(url: str, *, create: bool = False) -> "RDBStorage":
    """Optuna's storage with a tuned engine and our tables; ``create`` makes what is missing."""
    path = sqlite_path(url)
    if path is not None:
        _refuse_network(path, url)
    if path is not None and path.is_file() and not os.access(path, os.W_OK):
        raise StorageError(f"{redact(url)}: the database is read-only; make it writable or copy it elsewhere")
    if not create:
        open_engine(url)
        return _connect(url)
    if path is None or path.is_file():
        _check_before_creation(url)
    if path is not None:
        _make_folder(path, url)
    with explained(url):
        _create_tables(url)
    return _connect(url)


def _create_tables(url: str) -> None:
    """Make what is missing of our tables and of Optuna's, in one transaction: each would wait for the disk."""
    from optuna.storages._rdb import models

    engine = sa.create_engine(_parse(url), **_engine_kwargs(url))
    _tune(engine)
    with _disposed(engine), engine.begin() as connection:
        tables.metadata.create_all(connection)
        models.BaseModel.metadata.create_all(connection)
        if connection.scalar(sa.select(sa.func.count()).select_from(tables.schema)) == 0:
            connection.execute(sa.insert(tables.schema).values(version=tables.SCHEMA_VERSION))


@contextmanager
def _disposed(engine: sa.Engine) -> Iterator[None]:
    """Close the engine's connections at the end, also where that is an error."""
    try:
        yield
    finally:
        engine.dispose()


def close_storage(storage: "RDBStorage") -> None:
    """Give the connections of a storage back."""
    storage.remove_session()
    storage.engine.dispose()


@contextmanager
def exclusive(url: str) -> Iterator[None]:
    """One process at a time makes tables and studies, or takes a trial; the lock of one that dies is free.

    A lock file beside an SQLite database, an advisory lock in PostgreSQL.
    """
    path = sqlite_path(url)
    if path is not None:
        _make_folder(path, url)
        with FileLock(f"{path}-lock", poll_interval=LOCK_POLL_S):
            yield
        return
    _check_driver(url)
    engine = sa.create_engine(_parse(url), poolclass=sa.NullPool)
    with explained(url), engine.connect() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_lock(EXCLUSIVE_LOCK)))
        yield


def file_system(path: Path, mounts: Path | None = None) -> str | None:
    """The type of the file system on which ``path`` lies or will lie, None where the system does not tell.

    ``mounts`` is read in the format of `/proc/mounts`.
    """
    try:
        lines = (mounts or MOUNTS).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    place, found, depth = path.resolve(), None, 0
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        folder = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point))
        if place.is_relative_to(folder) and len(folder.parts) >= depth:  # of two on one point the later is seen
            found, depth = kind, len(folder.parts)
    return found


def _refuse_network(path: Path, url: str) -> None:
    kind = file_system(path)
    if kind is not None and NETWORK_FILE_SYSTEMS.fullmatch(kind):
        raise StorageError(
            f"{redact(url)}: lies on a network file system ({kind}), where SQLite loses data; put the database on a "
            "local disk, or use --storage postgresql://USER:PASSWORD@HOST/NAME"
        )


def _make_folder(path: Path, url: str) -> None:
    _refuse_network(path, url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{redact(url)}: the folder cannot be made: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK):
        raise StorageError(f"{redact(url)}: the folder {path.parent} is not writable")


def _check_before_creation(url: str) -> None:
    """Before anything is written: the database can be read, and holds no tables of another version of ours."""
    if sqlite_path(url) is None:
        _check_driver(url)
    engine = sa.create_engine(_parse(url), poolclass=sa.NullPool)
    with explained(url):
        with engine.connect() as connection:
            ours = sa.inspect(connection).has_table(tables.schema.name)
        if ours:
            _check_schema(engine, url)


def _connect(url: str) -> "RDBStorage":
    import optuna

    from nas.study.store.optuna_storage import TrialStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with explained(url):
        storage = TrialStorage(url, engine_kwargs=_engine_kwargs(url))
    _tune(storage.engine)
    return storage
