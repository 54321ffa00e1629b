"""One server imports for all processes that need torch, and touches nothing."""

import os
import sys
from pathlib import Path

import pytest

from nas.errors import NasError, UserError
from nas.study import processes

pytestmark = pytest.mark.skipif(not processes.FORKS, reason="processes are not forked here")


def surroundings() -> tuple[int, bool, int]:
    """The parent, whether torch came with it, and its threads."""
    return os.getppid(), "torch" in sys.modules, len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))


def test_what_is_forked_has_torch_from_a_server_with_one_thread() -> None:
    (server, imported, num_threads), (again, *_) = processes.ask(surroundings), processes.ask(surroundings)
    assert server == again != os.getpid()
    assert imported
    assert num_threads == 1


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


def test_a_process_that_breaks_has_said_why(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NasError, match="fail failed, see above"):
        processes.ask(fail, KeyError, "colour")
