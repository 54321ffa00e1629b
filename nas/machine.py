"""The machine: its cores, and the names by which it, its processes and their moments are known."""

import ctypes
import os
import socket
import sys
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

PROC = Path("/proc")
INITIAL_NAMESPACE = "pid:[4026531836]"
"""Namespace of the processes of a Linux machine itself, of no container (PROC_PID_INIT_INO in Linux's proc_ns.h)."""


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Machine:
    """Where process numbers mean something: one boot of one machine, and in it one namespace of processes.

    Names of hosts do not tell machines apart: two containers may have one name.
    """

    boot: str
    """Number of the boot (Linux), else the network card's address."""
    namespace: str
    """Of the process numbers: containers on one machine have one each."""
    installation: str
    """What a machine keeps when it boots again; empty in a container, which has nothing of the kind."""

    @classmethod
    @cache
    def this(cls) -> Self:
        """The machine of this process."""
        boot = _read(PROC / "sys/kernel/random/boot_id") or f"{uuid.getnode():x}"
        try:
            namespace = str((PROC / "self/ns/pid").readlink())
        except OSError:
            namespace = sys.platform
        kept = _read(Path("/etc/machine-id")) if namespace == INITIAL_NAMESPACE else ""
        return cls(boot=boot, namespace=namespace, installation=f"{kept}/{socket.gethostname()}" if kept else "")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From what `str` gave."""
        return cls(*text.split("|", 2))

    def __str__(self) -> str:
        return "|".join((self.boot, self.namespace, self.installation))

    def sees(self, other: Self) -> bool:
        """Whether the process numbers of both are the same ones."""
        return (self.boot, self.namespace) == (other.boot, other.namespace)

    def was(self, other: Self) -> bool:
        """Whether the other is this machine before it booted anew: nothing that ran there runs any more."""
        return bool(self.installation) and self.installation == other.installation and self.boot != other.boot


def process_start(pid: int) -> int | None:
    """When a process of this machine began, in clock ticks since the boot: a number that is used again has another.

    None where there is no such process, where it is a zombie, and where the system does not tell.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else None


def process_lives(pid: int, started: int | None = None) -> bool:
    """Whether a process of this machine exists and is no zombie; with ``started``, also that it is the same one."""
    if os.name == "nt":
        return _lives_on_windows(pid, _kernel32())
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    if not (PROC / "self/stat").exists():
        return True
    now = process_start(pid)
    return now is not None and started in (None, now)


SYNCHRONIZE, WAIT_TIMEOUT, ERROR_ACCESS_DENIED = 0x00100000, 0x102, 5
"""Of Windows' winnt.h, winbase.h and winerror.h."""


def _kernel32() -> Any:
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]  # of Windows
    kernel32.OpenProcess.restype = ctypes.c_void_p
    kernel32.OpenProcess.argtypes = (ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32)
    kernel32.WaitForSingleObject.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    kernel32.CloseHandle.argtypes = (ctypes.c_void_p,)
    return kernel32


def _lives_on_windows(pid: int, kernel32: Any) -> bool:
    """Windows has no signal that only asks: there ``os.kill(pid, 0)`` is Ctrl-C for a whole console."""
    process = kernel32.OpenProcess(SYNCHRONIZE, False, pid)
    if not process:
        return bool(ctypes.get_last_error() == ERROR_ACCESS_DENIED)  # type: ignore[attr-defined]  # somebody else's
    try:
        return bool(kernel32.WaitForSingleObject(process, 0) == WAIT_TIMEOUT)
    finally:
        kernel32.CloseHandle(process)


def _stat(pid: int) -> list[str]:
    """The fields of `/proc/PID/stat` from the third, the state, on; empty where there are none (man 5 proc)."""
    return _read(PROC / str(pid) / "stat").rpartition(")")[2].split()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
