"""A consistent copy of a live SQLite study database."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from nas.errors import UserError
from nas.study.store import tables
from nas.study.store.engine import open_engine
from nas.study.store.errors import explained
from nas.study.store.urls import redact, sqlite_path


def backup(url: str, target: Path) -> int:
    """Copy the database while others write to it; returns the bytes written.

    SQLite's own online backup makes the copy, which is checked before it takes the place of what was there.

    Raises:
        UserError: the target is a database in use, or cannot be written.
    """
    source = sqlite_path(url)
    if source is None:
        raise UserError(f"{redact(url)}: only SQLite databases are copied here; use pg_dump for PostgreSQL")
    open_engine(url)
    in_use = Path(f"{target}-wal").exists() or (target.exists() and source.samefile(target))
    if in_use or target.is_dir():
        raise UserError(f"{target}: is a folder, or a database in use; choose a new name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
            copy = Path(folder) / "copy.db"
            _copy(url, source, copy)
            copy.replace(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from None
    return target.stat().st_size


def _copy(url: str, source: Path, copy: Path) -> None:
    uri = f"{source.resolve().as_uri()}?mode=ro"
    with explained(url), closing(sqlite3.connect(uri, uri=True)) as live, closing(sqlite3.connect(copy)) as made:
        live.backup(made)
        made.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        verdict = made.execute("PRAGMA integrity_check").fetchone()[0]
    if verdict != "ok":
        raise UserError(f"{redact(url)}: the database is damaged: {verdict}")


def check_database(engine: sa.Engine) -> str:
    """What SQLite says of its file, and whether every row of ours belongs to a trial."""
    wrong = []
    known = sa.select(tables.optuna_trials.c.trial_id)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            verdict = str(connection.exec_driver_sql("PRAGMA integrity_check").scalar())
            wrong += [verdict] if verdict != "ok" else []
        for table in (table for table in tables.metadata.sorted_tables if "trial_id" in table.c):
            lone = sa.select(sa.func.count()).select_from(table).where(table.c.trial_id.not_in(known))
            if count := connection.scalar(lone):
                wrong.append(f"{table.name}: {count} rows of no trial")
    return "; ".join(wrong) or "ok"
