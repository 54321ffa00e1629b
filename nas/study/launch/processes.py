"""Processes that need torch, of which one imports it for all of them.

On Linux they are forked by a server that imports and does nothing else: it has a single thread, and no tensor and no
GPU is touched in it. It ends with the last of those who use it. Elsewhere, where a process with so many libraries
is not safely forked, each one imports for itself.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from nas.errors import NasError
from nas.temporary import socket_root

FORKS = sys.platform == "linux"
CONTEXT: Any = multiprocessing.get_context("forkserver" if FORKS else "spawn")
TIME_LIMIT_SIGNALS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""What cluster schedulers send to every process of a job shortly before its time is over; Windows has neither."""
GROUP_SIGNALS = (signal.SIGINT, *TIME_LIMIT_SIGNALS)
"""What reaches a whole group of processes, also the server, which has nothing to put back."""
END_S = 5.0
"""Time that a process which has closed its pipe has to end."""
SERVER_LOST = 255
"""Exit code of a process whose server is gone, so that nobody knows how it ended."""


def warm_up() -> None:
    """Let the server begin with its imports; without waiting for them.

    Raises:
        NasError: there is no place for its socket.
    """
    place_sockets()
    if FORKS:
        CONTEXT.set_forkserver_preload(["nas.study.launch.preloaded"])
        with _signals_wait(), _one_thread():
            forkserver.ensure_running()


def start(target: Callable[..., None], *args: Any) -> BaseProcess:
    """A process that runs ``target``, once the server has its imports; it is born deaf to Ctrl-C.

    A server that is killed meanwhile is replaced, and one whose socket was cleaned away; `NasError` where the next
    one dies too.
    """
    try:
        return _started(target, args)
    except (EOFError, ConnectionError, FileNotFoundError):
        _abandon_server()
    try:
        return _started(target, args)
    except (EOFError, ConnectionError, FileNotFoundError):
        raise NasError("the process that imports torch for the workers has died twice") from None


def _started(target: Callable[..., None], args: tuple[Any, ...]) -> BaseProcess:
    process: BaseProcess = CONTEXT.Process(target=target, args=args)
    warm_up()
    if FORKS:
        process.start()
    else:
        with _signals_wait():
            process.start()
    return process


def _abandon_server() -> None:
    """Let the next process have a server of its own. The old one ends with the processes that it has started.

    Waiting for that, as multiprocessing would, could take as long as the study.
    """
    server: Any = forkserver._forkserver  # private: there is no public way
    if server._forkserver_pid is not None:
        os.close(server._forkserver_alive_fd)
    server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None


def place_sockets() -> None:
    """Choose a folder for the sockets of this process and of those that it starts, if the one so far is gone.

    Raises:
        NasError: there is no place for them.
    """
    inherited: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]  # no public way
    if (folder := inherited.get("tempdir")) is not None and Path(folder).is_dir():
        return
    inherited["tempdir"] = folder = tempfile.mkdtemp(prefix="pymp-", dir=socket_root())
    util.Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-100)


def ask(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a process of its own, and which `NasError` it raises there."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = start(_answer, sender, function, *args)
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join(END_S)
        killed = process.exitcode is None or process.exitcode < 0 or process.exitcode == SERVER_LOST
        why = "its process was killed; type the same command again" if killed else "see above"
        raise NasError(f"{function.__name__} failed: {why}") from None
    finally:
        process.kill()
        process.join()
    if isinstance(answer, NasError):
        raise answer
    return answer


def _answer(sender: Connection, function: Callable[..., Any], *args: Any) -> None:
    try:
        sender.send(function(*args))
    except NasError as error:
        sender.send(error)


def orphan_alarm() -> Callable[[], bool]:
    """In a process that was started here, says whether the one that wanted it is gone, or the server."""
    launcher, server = multiprocessing.parent_process(), os.getppid()
    return lambda: os.getppid() != server or (launcher is not None and not launcher.is_alive())


def let_signals_through() -> None:
    """In a process that was started here and knows what to do with them; before, they wait."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Processes that are started meanwhile do not hear signals, until they let them through."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Libraries that make threads when they are imported make none: a process with threads is not safely forked."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
