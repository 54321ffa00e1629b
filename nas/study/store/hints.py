"""Command lines that are shown to be pasted into a shell."""

import os
import shlex
from pathlib import Path

from nas.study.store.urls import DEFAULT_URL, STORAGE_VARIABLE, redact


def command_line(command: str, *words: str | int | Path, url: str) -> str:
    """``nas COMMAND WORDS``, each quoted, with the database where it is not the one that is meant anyway.

    A password is left out, and has to be put in for its `***`.
    """
    database = [] if url == os.environ.get(STORAGE_VARIABLE, DEFAULT_URL) else ["--storage", redact(url)]
    name, *options = map(str, words)
    return shlex.join(["nas", command, name, *database, *options])
