"""What Windows is asked about a process, where no signal may be sent to ask; Linux is asked in tests/study."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from nas import machine
from nas.machine import ERROR_ACCESS_DENIED, SYNCHRONIZE, WAIT_TIMEOUT, process_lives

INVALID_PARAMETER = 87
HANDLE = 2**40 + 8


@dataclass
class Kernel32:
    """Windows' library, as far as it is used: one process, which runs, has ended, is somebody else's or is not."""

    state: str
    error: int = 0
    closed: list[int] = field(default_factory=list)

    def OpenProcess(self, access: int, inherit: bool, pid: int) -> int | None:  # noqa: N802
        assert (access, inherit, pid) == (SYNCHRONIZE, False, 77)
        self.error = {"other's": ERROR_ACCESS_DENIED, "none": INVALID_PARAMETER}.get(self.state, 0)
        return None if self.error else HANDLE

    def WaitForSingleObject(self, handle: int, milliseconds: int) -> int:  # noqa: N802
        assert (handle, milliseconds) == (HANDLE, 0)
        return WAIT_TIMEOUT if self.state == "runs" else 0

    def CloseHandle(self, handle: int) -> None:  # noqa: N802
        self.closed.append(handle)


@pytest.mark.parametrize(("state", "lives"), [("runs", True), ("ended", False), ("other's", True), ("none", False)])
def test_windows_is_asked_without_a_signal(monkeypatch: pytest.MonkeyPatch, state: str, lives: bool) -> None:
    kernel32 = Kernel32(state)
    monkeypatch.setattr(machine, "os", SimpleNamespace(name="nt"))  # without kill, which would be Ctrl-C there
    monkeypatch.setattr(machine, "_kernel32", lambda: kernel32)
    monkeypatch.setattr(machine.ctypes, "get_last_error", lambda: kernel32.error, raising=False)
    assert process_lives(77, started=123) == lives
    assert kernel32.closed == ([HANDLE] if state in ("runs", "ended") else [])
