"""One server imports for all processes that need torch, and touches nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver, util
from pathlib import Path

import pytest

from nas.errors import NasError, UserError
from nas.study.launch import processes

pytestmark = pytest.mark.skipif(not processes.FORKS, reason="processes are not forked here")


def surroundings() -> tuple[int, bool, int]:
    """The parent, whether torch came with it, and its threads."""
    return os.getppid(), "torch" in sys.modules, len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))


def test_what_is_forked_has_torch_from_a_server_with_one_thread() -> None:
    (server, imported, num_threads), (again, *_) = processes.ask(surroundings), processes.ask(surroundings)
    assert server == again != os.getpid()
    assert imported
    assert num_threads == 1


def kill_servers(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """Kill so many servers while they import, after they were asked for a process; the list will hold them."""
    server = forkserver._forkserver  # type: ignore[attr-defined]
    server._stop()
    connect, killed = server.connect_to_new_process, []

    def then_kill(fds: object) -> object:
        connection = connect(fds)
        if len(killed) < count:
            killed.append(server._forkserver_pid)
            os.kill(killed[-1], signal.SIGKILL)
        return connection

    monkeypatch.setattr(forkserver, "connect_to_new_process", then_kill)
    return killed


def test_servers_that_are_killed_again_and_again_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = kill_servers(monkeypatch, 2)
    with pytest.raises(NasError, match="has died twice"):
        processes.ask(surroundings)
    assert len(killed) == 2


def test_a_server_that_is_killed_while_it_is_asked_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = kill_servers(monkeypatch, 1)
    server, imported, _ = processes.ask(surroundings)
    assert imported
    assert killed
    assert server not in killed


def test_a_folder_of_sockets_that_was_cleaned_away_is_replaced() -> None:
    first, *_ = processes.ask(surroundings)
    early = processes.start(time.sleep, 600)  # lives on under the server that cannot be asked any more
    shutil.rmtree(util.get_temp_dir())
    second, imported, _ = processes.ask(surroundings)
    assert imported
    assert first != second
    assert early.is_alive()
    early.kill()
    early.join()


ASK = "import os; from nas.study.launch import processes; print(processes.ask(os.getpid) != os.getpid())"


def test_a_folder_too_deep_for_a_socket_is_not_used(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    environment = {**os.environ, "TMPDIR": str(deep)}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def cuda_was_touched() -> bool:
    import torch

    return torch.cuda.is_initialized() or torch.cuda._is_in_bad_fork()


def test_no_gpu_is_touched_before_the_fork() -> None:
    assert not processes.ask(cuda_was_touched)


def fail(error: type[Exception], text: str) -> None:
    raise error(text)


def test_errors_that_explain_themselves_come_back() -> None:
    with pytest.raises(UserError, match="the file is empty"):
        processes.ask(fail, UserError, "the file is empty")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_says_so() -> None:
    with pytest.raises(NasError, match="die failed: its process was killed; type the same command again"):
        processes.ask(die)


def test_a_process_that_breaks_has_said_why(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NasError, match="fail failed: see above"):
        processes.ask(fail, KeyError, "colour")
