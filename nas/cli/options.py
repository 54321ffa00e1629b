"""Options that several commands share."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nas.errors import UserError
from nas.study.store.urls import DEFAULT_URL, STORAGE_VARIABLE

if TYPE_CHECKING:
    from nas.study.launch.engines import Engine

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a stored study.", show_default=False)]
Storage = Annotated[
    str, typer.Option("--storage", metavar="URL", envvar=STORAGE_VARIABLE, help="Database of the studies.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Workers = Annotated[
    str | None, typer.Option("--workers", metavar="N|auto", help="Local worker processes; auto: one a core.")
]
Trials = Annotated[
    int | None, typer.Option("--trials", min=1, metavar="N", help="Size of the whole study: trials in the end.")
]
Devices = Annotated[str, typer.Option("--devices", metavar="auto|cpu|0,1", help="Devices to compute on.")]
OneDevice = Annotated[str, typer.Option("--devices", metavar="auto|cpu|0", help="Devices to compute on.")]
OldDevice = Annotated[str | None, typer.Option("--device", hidden=True)]
"""What `--devices` was called where it takes one."""
Force = Annotated[
    bool, typer.Option("--force", help="Write where something is: over a file, or beside another program's tables.")
]
OUTPUT_HELP = "File or folder to write."
SEEDS_HELP = "Full trainings of each network; at least 2."
FORMAT_HELP = "Format of what is written."
PerDevice = Annotated[
    int | None,
    typer.Option(
        "--per-device", min=1, metavar="K", help="Workers that share a device; fewer where its memory runs out."
    ),
]
EngineOption = Annotated[
    Literal["local", "ray", "slurm"],
    typer.Option("--engine", help="What starts the workers: this machine, a Ray cluster, or Slurm."),
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-set", metavar="KEY=VALUE", help="slurm: an option of its jobs, e.g. partition=gpu or time=240."
    ),
]

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

__all__ = [
    "DEFAULT_URL",
    "INTERRUPTED",
    "Devices",
    "EngineOption",
    "EngineOptions",
    "Force",
    "Json",
    "OldDevice",
    "OneDevice",
    "PerDevice",
    "Storage",
    "StudyName",
    "Trials",
    "Workers",
]


def check_free(path: Path, *, force: bool) -> None:
    """Refuse to write where something is, unless ``--force`` was given; an empty folder is nothing."""
    taken = any(path.iterdir()) if path.is_dir() else path.exists()
    if taken and not force:
        raise UserError(f"{path}: exists already; choose another name with -o, or overwrite it with --force")


def worker_wish(text: str | None) -> int | Literal["auto"] | None:
    """What ``--workers`` asks for; None where it was not given."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--workers: expected a positive number or auto, got {text!r}")
    return int(text)


def worker_count(text: str | None, default: int) -> int:
    """The number of processes of this machine that ``--workers`` asks for; auto: one a core."""
    from nas.machine import cpu_count

    wish = worker_wish(text)
    return cpu_count() if wish == "auto" else wish or default


def chosen_engine(
    name: Literal["local", "ray", "slurm"],
    config: Mapping[str, Any],
    *,
    workers: str | None,
    devices: str,
    per_device: int | None,
    options: Sequence[str] | None,
) -> "Engine":
    """The engine of the command line for a study with this configuration."""
    from nas.study.launch.engines import Request, make_engine

    names = device_names(devices)
    request = Request(
        workers=worker_wish(workers),
        usual=config["workers"],
        devices=names if names != ("auto",) else (config["training"]["device"],),
        per_device=per_device,
        options=dict(_key_and_value(option) for option in options or ()),
    )
    if options and name != "slurm":
        raise UserError(f"--engine-set {options[0]}: only --engine slurm has options")
    return make_engine(name, request)


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--engine-set {text}: expected KEY=VALUE, for example partition=gpu")
    return key, value


def device_names(text: str) -> tuple[str, ...]:
    """The torch devices that ``--devices`` asks for."""
    if text in ("auto", "cpu", "mps", "cuda"):
        return (text,)
    numbers = [number.removeprefix("cuda:") for number in text.split(",")]
    if all(number.isdigit() for number in numbers) and len(set(numbers)) == len(numbers):
        return tuple(f"cuda:{number}" for number in numbers)
    raise UserError(f"--devices: expected auto, cpu, mps or different numbers of GPUs such as 0,1, got {text!r}")


def deadline_of(limit_s: float | None) -> float | None:
    """The moment after which no worker goes on, where there is a limit."""
    return time.time() + limit_s if limit_s else None


def one_device(text: str, old: str | None) -> str:
    """The torch device that ``--devices`` asks for, or its ``old`` name, where only one can be meant."""
    text = text if old is None else old
    names = device_names(text)
    if len(names) > 1:
        raise UserError(f"--devices: expected one device here, got {text!r}")
    return names[0]


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
