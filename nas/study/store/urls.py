"""Database URLs: what they may be, how they are shown, and where a file of SQLite may lie."""

import os
import re
from pathlib import Path

import sqlalchemy as sa

from nas.errors import UserError

DEFAULT_URL = "sqlite:///studies/nas.db"


STORAGE_VARIABLE = "FUSION_NAS_STORAGE"
"""Environment variable that names the database where `--storage` does not."""


MOUNTS = Path("/proc/mounts")
"""Where Linux lists its file systems; elsewhere they are not known."""


NETWORK_FILE_SYSTEMS = re.compile(
    r"(fuse\.)?(afs|beegfs|ceph|cifs|coda|cvmfs|davfs|gcsfuse|gfs2|glusterfs|gpfs|juicefs|lustre|mfs|ncpfs|nfs4?|"
    r"ocfs2|orangefs|panfs|pvfs2|rclone|s3fs|smb3|smbfs|sshfs|wekafs)"
)
"""SQLite's locks and its shared-memory index do not hold on these (https://www.sqlite.org/wal.html)."""


HIDDEN = "***"
UNREADABLE = "the given storage URL"
"""What is shown instead of a URL of which nobody can tell where its password ends."""

SHOWN_OPTIONS = ("host", "hostaddr", "port", "dbname", "user", "sslmode", "connect_timeout", "application_name")
"""Options behind the `?` of a URL whose values are no secrets; those of all others are hidden."""


def redact(url: str) -> str:
    """The URL with its password hidden, wherever it stands: before the host, or among the options behind the `?`."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return UNREADABLE
    if "@" in (parsed.host or ""):  # an @ in the password that was not written as %40
        return UNREADABLE
    plain = parsed.set(query={}).render_as_string(hide_password=True)
    options = [f"{key}={text if _shown(key, text) else HIDDEN}" for key, text in _options(parsed)]
    return f"{plain}?{'&'.join(options)}" if options else plain


def without_secrets(text: str, url: str) -> str:
    """A driver's own words, without what `redact` hides of the URL."""
    parsed = parse_url(url)
    secrets = [parsed.password or "", *(text for key, text in _options(parsed) if not _shown(key, text))]
    for secret in sorted(filter(None, map(str, secrets)), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _options(parsed: sa.URL) -> list[tuple[str, str]]:
    """What stands behind the `?`: one pair for each time that an option is given."""
    given = parsed.query.items()
    return [(key, text) for key, texts in given for text in ((texts,) if isinstance(texts, str) else texts)]


def _shown(key: str, text: str) -> bool:
    return key in SHOWN_OPTIONS and re.fullmatch(r"[\w.:,/-]+", text) is not None


def parse_url(url: str) -> sa.URL:
    """The parts of a URL; a `~` at the beginning of a file's path is the home folder.

    Raises:
        UserError: it is no URL, or of a database that cannot be used.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise UserError(
            "--storage: not a database URL; expected sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise UserError(f"{redact(url)}: expected a sqlite:/// or postgresql:// URL")
    if parsed.get_backend_name() == "postgresql":
        return parsed
    if not parsed.database or parsed.database == ":memory:":
        raise UserError(f"{redact(url)}: expected sqlite:///PATH; a database in memory cannot be shared")
    if "?" in url:
        raise UserError(f"{redact(url)}: expected sqlite:///PATH without options; in a path write %3F for a ?")
    path = os.path.expanduser(parsed.database)  # noqa: PTH111 - pathlib drops the ./ before a folder called ~
    if path.startswith("~"):
        raise UserError(f"{redact(url)}: there is no such home folder; expected a whole path")
    return parsed.set(database=path)


def sqlite_url(path: Path) -> str:
    """The URL of a database file, whatever characters its path has."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string()


def optuna_url(url: str) -> str:
    """The URL as Optuna wants it: the home folder is written out, and braces are doubled, for it fills a template."""
    text = parse_url(url).render_as_string(hide_password=False)
    return text.replace("{", "{{").replace("}", "}}")


def sqlite_path(url: str) -> Path | None:
    """The database file of a SQLite URL, None for a server."""
    parsed = parse_url(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def check_driver(url: str) -> None:
    """Refuse a URL whose driver is not installed, with the line that installs it."""
    try:
        parse_url(url).get_dialect().import_dbapi()
    except ImportError as error:
        raise UserError(
            f"{redact(url)}: the driver {error.name} is not installed; install it with: "
            "uv pip install 'fusion-nas[postgres]'"
        ) from None


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


def refuse_network(path: Path, url: str) -> None:
    """Refuse a file on a file system where SQLite's locks do not hold."""
    kind = file_system(path)
    if kind is not None and NETWORK_FILE_SYSTEMS.fullmatch(kind):
        raise UserError(
            f"{redact(url)}: lies on a network file system ({kind}), where SQLite loses data; put the database on a "
            "local disk, or use --storage postgresql://USER:PASSWORD@HOST/NAME"
        )


def make_folder(path: Path, url: str) -> None:
    """Make the folder of a file; `UserError` where it cannot be had."""
    refuse_network(path, url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{redact(url)}: the folder cannot be made: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{redact(url)}: the folder {path.parent} is not writable")


def absolute_url(url: str) -> str:
    """The URL as a worker with another working directory must see it."""
    path = sqlite_path(url)
    return url if path is None else sqlite_url(path.resolve())


def results_parent(url: str) -> Path:
    """Where the folders of studies' results lie: beside an SQLite database."""
    database = sqlite_path(url)
    return database.parent if database else Path("studies")
