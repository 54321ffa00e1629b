"""A consistent copy of a live SQLite study database."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from nas.errors import UserError
from nas.study.store.engine import explained, open_engine, redact, sqlite_path


def backup(url: str, target: Path) -> int:
    """Copy the database while others write to it; returns the bytes written.

    SQLite's own online backup makes the copy, which is checked before it takes its place.
    """
    source = sqlite_path(url)
    if source is None:
        raise UserError(f"{redact(url)}: only SQLite databases are copied here; use pg_dump for PostgreSQL")
    open_engine(url)
    if target.exists():
        raise UserError(f"{target}: exists already; choose a new name")
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
