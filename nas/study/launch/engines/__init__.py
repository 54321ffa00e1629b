"""What starts workers. An engine only starts them: they meet in the study's database, wherever they run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal, Protocol, Self

from nas.errors import UserError
from nas.study.store.reader import Study

EngineName = Literal["local", "ray", "slurm"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Workers that are wanted, before anybody has looked whether they fit."""

    workers: int | Literal["auto"] | None = None
    """`auto`: as many as fit; None: `usual`, or as many as fit if those are fewer."""
    usual: int = 1
    """What the study file says, which may come from another machine."""
    devices: tuple[str, ...] = ("auto",)
    """Torch devices that are dealt out in turn."""
    per_device: int | None = None
    """Workers that share a device."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What only one engine understands."""

    def count(self, capacity: int, what: str) -> int:
        """Workers to start where ``capacity`` fit on ``what``; `UserError` where none do or more were asked for."""
        if capacity == 0:
            raise UserError(f"--devices: {what} take no worker")
        if self.workers == "auto" or (self.workers is None and self.per_device is not None):
            return capacity
        if self.workers is None:
            return min(self.usual, capacity)
        if self.workers > capacity:
            raise UserError(
                f"--workers: {self.workers} asked for, but {what} take{'s' if what[:2] == '1 ' else ''} {capacity}; "
                "ask for fewer, or let more share a device with --per-device"
            )
        return self.workers


class Workers(Protocol):
    """Workers on one study, from entering the context until leaving it asks them to put their trials back."""

    excused: set[str]
    """Ids of workers that ended without putting their trials back, and not through any fault of the trials."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def num_running(self) -> int:
        """Workers that have not ended."""
        ...

    def mend(self) -> list[str]:
        """Start anew what was lost; returns what there is to say about it."""
        ...

    def raise_failure(self) -> None:
        """When all have ended and one did not end well, raise what it said last."""
        ...


class Engine(Protocol):
    """Knows how many workers fit, and starts them."""

    num_workers: int

    def check(self, url: str) -> None:
        """`UserError` where its workers could not work on a study at ``url``; nothing is started or written."""
        ...

    def start(self, study: Study, count: int, deadline: float | None) -> Workers:
        """``count`` workers on a study; ``deadline`` is the moment after which they put their trials back."""
        ...


def make_engine(name: EngineName, request: Request) -> Engine:
    """The engine of this name; `UserError` where its extra is missing or the workers do not fit."""
    return _ENGINES[name](request)


def _local(request: Request) -> Engine:
    from nas.study.launch.engines.local import LocalEngine

    return LocalEngine(request)


def _ray(request: Request) -> Engine:
    _require("ray", "ray")
    from nas.study.launch.engines.ray import RayEngine

    return RayEngine(request)


def _slurm(request: Request) -> Engine:
    _require("slurm", "submitit")
    from nas.study.launch.engines.slurm import SlurmEngine

    return SlurmEngine(request)


_ENGINES: dict[EngineName, Callable[[Request], Engine]] = {"local": _local, "ray": _ray, "slurm": _slurm}


def _require(extra: str, module: str) -> None:
    if find_spec(module) is None:
        raise UserError(
            f"--engine {extra}: {module} is not installed; install it with: uv pip install 'fusion-nas[{extra}]'"
        )
