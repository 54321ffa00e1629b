"""`nas` in a process of its own that has torch from its first moment, as its workers have it.

It is forked by the server that `nas.study.launch.processes` keeps for the process of the tests, and the server that
it wants for its own workers is forked from it in turn: nothing is imported again for seconds. Signals, the
environment, the working folder and both outputs are its own, as for `python -m nas`, which some tests still start.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import util
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import NoReturn
from weakref import finalize

from nas.cli import main
from nas.export import verify
from nas.study.launch import processes

Program = Callable[[list[str]], int]
OUTPUTS = ("out", "err")


class Command:
    """A running `nas`, with the part of `subprocess.Popen` that tests need.

    Args:
        before: called in the process before anything else.
        program: what is run in place of `nas`.
    """

    def __init__(self, *arguments: object, before: Callable[[], object] | None = None, program: Program = main) -> None:
        self.args = [str(argument) for argument in arguments]
        self._outputs = Path(tempfile.mkdtemp(prefix="nas-test-"))
        finalize(self, shutil.rmtree, self._outputs, ignore_errors=True)
        surroundings = _Surroundings(Path.cwd(), dict(os.environ), self._outputs)
        self._process = processes.start(_run, program, self.args, surroundings, before)

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative if a signal has ended it."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended; one that takes longer is killed."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise TimeoutExpired(self.args, timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Standard output and standard error, once it has ended."""
        self.wait(timeout)
        out, err = ((self._outputs / name).read_text(encoding="utf-8") for name in OUTPUTS)
        return out, err


def run(
    *arguments: object, before: Callable[[], object] | None = None, program: Program = main
) -> "CompletedProcess[str]":
    """`nas` from beginning to end."""
    command = Command(*arguments, before=before, program=program)
    out, err = command.communicate()
    return CompletedProcess(command.args, command.wait(), out, err)


def run_verification(command: Sequence[str], **_: object) -> "CompletedProcess[str]":
    """Stands in for the `subprocess.run` of `nas.export.verify`."""
    assert command[:3] == [sys.executable, "-m", verify.__name__]
    return run(*command[3:], program=verify.main)


@dataclass(frozen=True)
class _Surroundings:
    folder: Path
    environment: dict[str, str]
    outputs: Path
    """Folder of the two files that are written."""

    def enter(self) -> None:
        for standard, name in enumerate(OUTPUTS, start=1):
            with (self.outputs / name).open("ab") as file:
                os.dup2(file.fileno(), standard)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)


def _run(
    program: Program, arguments: list[str], surroundings: _Surroundings, before: Callable[[], object] | None
) -> NoReturn:
    surroundings.enter()
    if processes.FORKS:
        util.spawnv_passfds = _fork
    if before is not None:
        before()
    processes.let_signals_through()
    sys.exit(program(arguments))


def _fork(path: bytes, arguments: list[str], kept: list[int]) -> int:
    """Run the program of ``python -c`` in a fork that has no files but the standard ones and those that are kept."""
    if pid := os.fork():
        return pid
    try:
        bounds = [2, *sorted(kept), os.sysconf("SC_OPEN_MAX")]
        for before, after in pairwise(bounds):
            os.closerange(before + 1, after)
        exec(arguments[-1], {})
    except SystemExit:
        os._exit(0)  # as `nas.study.launch.preloaded` ends it
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(1)
