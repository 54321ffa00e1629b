"""Machines that lack what a usual Linux has: Windows, and containers without accounts and home folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from tests.study.conftest import SUMMARY

MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
SIGNALS = ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "pthread_sigmask")
FUNCTIONS = ("chown", "fchmod", "fork", "getuid", "memfd_create", "sched_getaffinity", "setsid")
LIKE_WINDOWS = f"""
import asyncio, filelock, multiprocessing, os, signal, subprocess, sys  # these have another form there

for name in {MODULES}:
    sys.modules[name] = None
for module, names in ((signal, {SIGNALS}), (os, {FUNCTIONS})):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
from nas.cli import main

sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", [("spaces",), ("status", "s"), ("trials", "s"), ("search", "--help")])
def test_without_what_windows_lacks(tmp_path: Path, command: tuple[str, ...]) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY)
    environment = {**os.environ, "FUSION_NAS_STORAGE": url}
    run = [sys.executable, "-c", LIKE_WINDOWS, *command]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_locks_are_asked_for_only_where_they_are_needed() -> None:
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "import nas.training.turns as turns\n"
        "try:\n    turns.Turns('cpu')\n"
        "except turns.UserError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "latency_ms: can be timed on Linux and macOS only; on Windows use WSL\n"


NOBODY = """
import os, pwd

def unknown(_):
    raise KeyError("no such account")

pwd.getpwuid = pwd.getpwnam = unknown
for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "FUSION_NAS_CACHE"):
    os.environ.pop(name, None)
from nas.cli import main
from nas.training.data.cache import cache_dir

print(cache_dir())
print(main(["spaces"]))
"""


def test_without_account_and_home(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    run = [sys.executable, "-c", NOBODY]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == str(tmp_path / f"fusion-nas-{os.getuid()}")
    assert lines[-1] == "0"
