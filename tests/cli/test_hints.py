"""Command lines that are shown survive a shell, whatever the study and its database are called."""

import subprocess
from pathlib import Path

import pytest

from nas.study.store.hints import command_line
from nas.study.store.urls import DEFAULT_URL, STORAGE_VARIABLE, sqlite_url

NASTY = 'it\'s $HOME; `x` "y" #1 *?'
SHELL = "nas() { printf '%s\\n' \"$@\"; }\n"


def pasted(line: str, folder: Path) -> list[str]:
    """The arguments that `nas` gets where a line is pasted into a shell."""
    done = subprocess.run(["sh", "-c", SHELL + line], capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout.splitlines()


@pytest.mark.parametrize("url", [DEFAULT_URL, sqlite_url(Path("/a b/it's?.db")), "postgresql://me@h/d?sslmode=require"])
def test_a_command_line_is_what_it_says(tmp_path: Path, url: str) -> None:
    line = command_line("export", NASTY, "--trial", "front", "-o", tmp_path / NASTY, url=url)
    storage = [] if url == DEFAULT_URL else ["--storage", url]
    assert pasted(line, tmp_path) == ["export", NASTY, *storage, "--trial", "front", "-o", str(tmp_path / NASTY)]


def test_the_database_is_named_where_another_is_meant_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me@host/db"
    assert command_line("resume", "s", url=url) == "nas resume s --storage postgresql://me@host/db"
    monkeypatch.setenv(STORAGE_VARIABLE, url)
    assert command_line("resume", "s", url=url) == "nas resume s"
    assert command_line("resume", "s", url=DEFAULT_URL) == f"nas resume s --storage {DEFAULT_URL}"
