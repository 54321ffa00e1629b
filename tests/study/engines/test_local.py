"""How many workers fit on which devices, and what happens when the memory of a shared one runs out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from nas.errors import UserError
from nas.measurement import OutOfMemory
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.launch.engines import Request, make_engine
from nas.study.launch.engines.local import deal
from nas.study.run.training import Training
from nas.study.store.reader import open_study
from nas.training.data import open_data
from tests import warm
from tests.cli.conftest import write_study


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.study.launch.engines.local.cpu_count", lambda: 4)


@pytest.mark.parametrize(
    ("request_", "dealt"),
    [
        (Request(devices=("cpu",)), ["cpu"]),
        (Request(devices=("cpu",), usual=3), ["cpu"] * 3),
        (Request(devices=("cpu",), workers="auto"), ["cpu"] * 4),
        (Request(devices=("cpu",), per_device=6), ["cpu"] * 6),
        (Request(devices=("cuda:0", "cuda:1"), workers=2), ["cuda:0", "cuda:1"]),
        (Request(devices=("cuda:0", "cuda:1"), usual=8), ["cuda:0", "cuda:1"]),
        (Request(devices=("cuda:0", "cuda:1"), per_device=2), ["cuda:0", "cuda:1"] * 2),
        (Request(devices=("cuda:0", "cuda:1"), per_device=2, workers=3), ["cuda:0", "cuda:1", "cuda:0"]),
    ],
)
def test_devices_are_dealt_out_in_turn(request_: Request, dealt: list[str]) -> None:
    assert list(deal(request_)) == dealt


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(devices=("cpu",), workers=100), "--workers: 100 asked for, but 4 CPU cores take 16"),
        (Request(devices=("cuda:0",), workers=2), "--workers: 2 asked for, but 1 device takes 1;.*--per-device"),
        (Request(devices=("cuda:0", "cuda:1"), workers=5, per_device=2), "but 2 devices take 4"),
    ],
)
def test_too_many_workers_are_refused(request_: Request, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_engine("local", request_)


@pytest.mark.parametrize("present", [True, False])
def test_auto_takes_every_gpu(monkeypatch: pytest.MonkeyPatch, present: bool) -> None:
    monkeypatch.setattr("nas.study.launch.engines.local.GPU_DRIVERS", ("/" if present else "/none",))
    monkeypatch.setattr("nas.study.launch.processes.ask", lambda _: 2)
    dealt = deal(Request(workers=2))
    assert list(dealt) == (["cuda:0", "cuda:1"] if present else ["auto", "auto"])


@pytest.mark.parametrize("shared", [True, False])
def test_only_on_a_shared_device_a_candidate_without_memory_is_not_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")

    config, _ = StudyConfig.load(write_study(tmp_path))
    summary = open_data(config.data).summary
    study = create_study(config, "", f"sqlite:///{tmp_path / 'nas.db'}", lambda _: summary)
    measure = Training(study, device="cpu", shared=shared)
    monkeypatch.setattr("nas.study.run.training.train", no_memory)
    with pytest.raises(OutOfMemory if shared else torch.OutOfMemoryError):
        measure(None, on_epoch=lambda _: None, should_stop=lambda: False, checkpoint=tmp_path / "x")  # type: ignore[arg-type]


def no_memory_where_it_is_shared() -> None:
    """In the process of a command; its workers are forks of it."""

    def no_memory() -> NoReturn:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")

    robust = Training.robust

    def shared_robust(self: Training, run: Callable[[], Any], path: Path) -> Any:
        return robust(self, no_memory if self.shared else run, path)

    Training.robust = shared_robust  # type: ignore[method-assign]


def test_fewer_workers_share_a_device_whose_memory_ran_out(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    training = {"epochs": 1, "batch_size": 64, "threads": None}  # the workers share the cores out
    file = write_study(tmp_path, trials=3, training=training)
    done = warm.run("search", file, "--storage", url, "--per-device", "2", before=no_memory_where_it_is_shared)
    assert done.returncode == 0, done.stderr
    assert "2 workers" in done.stderr
    assert "auto: out of memory, shared by 1 from now on; the trial waits again" in done.stderr
    assert [(t.state, t.crashes, t.reason) for t in open_study(url, "tiny").trials()] == [("complete", 0, None)] * 3
