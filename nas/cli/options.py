"""Options that several commands share."""

from typing import Annotated

import typer

from nas.errors import UserError
from nas.study.storage import DEFAULT_URL, STORAGE_VARIABLE

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a stored study.", show_default=False)]
Storage = Annotated[
    str, typer.Option("--storage", metavar="URL", envvar=STORAGE_VARIABLE, help="Database of the studies.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Workers = Annotated[
    str | None, typer.Option("--workers", metavar="N|auto", help="Local worker processes; auto: one a core.")
]
Devices = Annotated[str, typer.Option("--devices", metavar="auto|cpu|0,1", help="Where the workers train.")]

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

__all__ = ["DEFAULT_URL", "INTERRUPTED", "Devices", "Json", "Storage", "StudyName", "Workers"]


def worker_count(text: str | None, default: int) -> int:
    """The number of workers that ``--workers`` asks for."""
    from nas.study.launch import cpu_count

    if text is None:
        return default
    if text == "auto":
        return cpu_count()
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--workers: expected a positive number or auto, got {text!r}")
    return int(text)


def device_names(text: str) -> tuple[str, ...]:
    """The torch devices that ``--devices`` asks for; they are dealt out to the local workers in turn."""
    if text in ("auto", "cpu", "mps", "cuda"):
        return (text,)
    numbers = text.split(",")
    if all(number.isdigit() for number in numbers):
        return tuple(f"cuda:{number}" for number in numbers)
    raise UserError(f"--devices: expected auto, cpu, mps or numbers of GPUs such as 0,1, got {text!r}")


def seconds(text: str | None) -> float | None:
    """A duration such as ``90``, ``45s``, ``30m`` or ``2h`` in seconds."""
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        value = float(number) * unit
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"--timeout: expected a duration such as 90s, 30m or 2h, got {text!r}")
    return value
