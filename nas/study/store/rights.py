"""Rights of what lies beside an SQLite database: who may work on its studies may use it too."""

import os
from contextlib import suppress
from pathlib import Path


def give_rights_of(database: Path, path: Path) -> None:
    """Give a file or folder that this process has just made the mode and the group of a database file.

    A folder can be entered by those who may read the database.
    """
    found = database.stat()
    mode = found.st_mode & 0o666
    if path.is_dir():
        mode |= (mode & 0o444) >> 2
    if hasattr(os, "chown") and path.stat().st_gid != found.st_gid:
        with suppress(PermissionError):  # who is not in the database's group cannot give files to it
            os.chown(path, -1, found.st_gid)
    path.chmod(mode)
