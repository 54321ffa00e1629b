"""Rights of what lies beside an SQLite database: who may work on its studies may use it too."""

import stat
from pathlib import Path

from nas.documents import give_group


def give_rights_of(database: Path, path: Path) -> None:
    """Give a file or folder that this process has just made the mode and the group of a database file.

    A folder can be entered by those who may read the database.
    """
    found = database.stat()
    mode = found.st_mode & 0o666
    if path.is_dir():
        mode |= (mode & 0o444) >> 2 | path.stat().st_mode & stat.S_ISGID  # what is made in it has its group too
    give_group(path, found.st_gid)
    path.chmod(mode)
