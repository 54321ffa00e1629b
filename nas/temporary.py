"""Folders for what nobody needs afterwards: where they may lie, how long their paths may be, and whom to trust.

Such a folder is not a given. It may be cleaned while a study runs, be too deep for a socket, or have been made by
somebody else, since everybody can write to ``/tmp``.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.errors import NasError

SHORT = Path("/tmp")  # noqa: S108 - what is made in it gets a random name, or its owner is checked
"""Where sockets lie if the usual folder is too deep for them."""
SOCKET_BYTES = 107
"""Longest path of a socket on Linux; other systems take a few less."""
SOCKET_NAME_BYTES = 40
"""What multiprocessing appends: a folder and a name, both random."""


def temporary_root() -> Path:
    """Where temporary files go now: ``TMPDIR``, or where the system has them. It may have been removed meanwhile.

    Raises:
        NasError: none can be written, or all are full.
    """
    if tempfile.tempdir is not None and not os.access(tempfile.tempdir, os.W_OK | os.X_OK):
        tempfile.tempdir = None  # Python would go on with the one that it found first
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise NasError(
            "temporary files: no folder takes any (not writable, or full); set TMPDIR to one that does"
        ) from None


def socket_root() -> Path:
    """A folder for temporary files whose path leaves room for a socket's.

    Raises:
        NasError: the usual one is too deep, and the short one cannot be written.
    """
    root = temporary_root()
    if len(os.fsencode(root)) + SOCKET_NAME_BYTES <= SOCKET_BYTES:
        return root
    if os.access(SHORT, os.W_OK | os.X_OK):
        return SHORT
    raise NasError(
        f"{root}: too deep for a socket, whose path has {SOCKET_BYTES} bytes; set TMPDIR to a folder of at most "
        f"{SOCKET_BYTES - SOCKET_NAME_BYTES}"
    )


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed when the block ends; `NasError` where there is no place for one."""
    with tempfile.TemporaryDirectory(dir=temporary_root(), prefix="fusion-nas-") as folder:
        yield Path(folder)


def own_folder() -> Path:
    """The one temporary folder of this user on this machine; made where it is missing.

    Raises:
        NasError: somebody else made it, or lets others write to it: they could replace what lies in it.
    """
    folder = temporary_root() / f"fusion-nas-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise NasError(
            f"{folder}: expected a folder of user {os.getuid()} that nobody else can write, found one of user "
            f"{found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}; remove it, or set TMPDIR to one of your own"
        )
    return folder
