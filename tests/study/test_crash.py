"""Workers that are killed without warning: nothing lost, nothing twice, the same results."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa

from nas.errors import UserError
from nas.study.store import tables
from nas.study.store.engine import open_engine
from nas.study.store.reader import Study, open_study
from tests import warm
from tests.cli.conftest import write_study
from tests.postgres import Server

NAME = "tiny"
T = TypeVar("T")
LIMIT_S = 300
"""After which something hangs: a busy machine takes minutes to import torch for all."""


def command(folder: Path, url: str) -> list[str]:
    # random sampling: what a place in the study draws does not depend on who was faster
    # and long enough that a killer finds a worker at work
    file = write_study(folder, space="full", sampler="random", training={"epochs": 10, "batch_size": 64}, trials=8)
    return ["search", str(file), "--storage", url, "--workers", "2"]


def outcome(study: Study) -> list[tuple[object, ...]]:
    return [(t.number, t.state, t.digest, t.score, tuple(e.val_loss for e in t.epochs)) for t in study.trials()]


def holders(url: str) -> dict[int, int]:
    """Processes that hold a trial, by its id; one that was killed holds it until another takes it up."""
    lease = tables.leases.c
    query = sa.select(lease.trial_id, tables.workers.c.pid).join(
        tables.workers, lease.worker_id == tables.workers.c.worker_id
    )
    with open_engine(url).connect() as connection:
        return {trial: pid for trial, pid in connection.execute(query) if Path(f"/proc/{pid}").exists()}


def worker_pids(url: str) -> list[int]:
    return list(holders(url).values())


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for(condition: Callable[[], T | None]) -> T:
    """What the condition gives as soon as it holds."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            if answer := condition():
                return answer
        except UserError:  # not stored yet
            pass
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def own_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_NAS_CHECKPOINTS", str(tmp_path / "checkpoints"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    url = f"sqlite:///{folder / 'nas.db'}"
    warm.run(*command(folder, url)).check_returncode()
    return outcome(open_study(url, NAME))


def test_killed_workers(undisturbed: list[tuple[object, ...]], url: str, tmp_path: Path) -> None:
    launcher = warm.Command(*command(tmp_path, url))
    hit: set[int] = set()
    for ended in (1, 3):
        wait_for(lambda n=ended: sum(t.state == "complete" for t in open_study(url, NAME).trials()) >= n)
        trial, pid = wait_for(lambda: next((pair for pair in holders(url).items() if pair[0] not in hit), None))
        os.kill(pid, signal.SIGKILL)
        hit.add(trial)
    _, err = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 0, err
    study = open_study(url, NAME)
    assert outcome(study) == undisturbed
    with open_engine(url).connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.leases)) == 0
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.measurements)) == 8


def test_a_database_server_that_restarts(
    undisturbed: list[tuple[object, ...]], postgres_server: Server, tmp_path: Path
) -> None:
    url = postgres_server.url()
    launcher = warm.Command(*command(tmp_path, url))
    for ended in (1, 4):
        wait_for(lambda n=ended: sum(t.state == "complete" for t in open_study(url, NAME).trials()) >= n)
        postgres_server.stop()
        postgres_server.start()
    _, err = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 0, err
    assert outcome(open_study(url, NAME)) == undisturbed


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_only_worker_is_replaced_when_it_is_killed(url: str, tmp_path: Path) -> None:
    one = [*command(tmp_path, url)[:-1], "1", "--trials", "2"]
    launcher = warm.Command(*one)
    wait_for(lambda: worker_pids(url))
    os.kill(worker_pids(url)[0], signal.SIGKILL)
    out, err = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 0, err
    assert "2 of 2 trials" in out


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_killed_launcher_takes_its_workers_with_it(url: str, tmp_path: Path) -> None:
    launcher = warm.Command(*command(tmp_path, url))
    wait_for(lambda: worker_pids(url))
    server = parent(worker_pids(url)[0])
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not worker_pids(url))
    wait_for(lambda: not Path(f"/proc/{server}").exists())
    assert all(t.state != "running" for t in open_study(url, NAME).trials())


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_workers_whose_server_is_killed_hand_back_and_are_replaced(
    undisturbed: list[tuple[object, ...]], url: str, tmp_path: Path
) -> None:
    launcher = warm.Command(*command(tmp_path, url))
    wait_for(lambda: worker_pids(url))
    os.kill(parent(worker_pids(url)[0]), signal.SIGKILL)
    _, err = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 0, err
    assert "2 workers were killed; started anew, nothing is lost" in err
    study = open_study(url, NAME)
    assert outcome(study) == undisturbed
    assert [t.crashes for t in study.trials()] == [0] * 8


def test_a_temporary_folder_that_is_cleaned_away_is_no_loss(tmp_path: Path) -> None:
    """Neither for what has begun, nor for the worker that takes the place of a killed one, nor for the results."""
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    temporary = tmp_path / "t"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    run = [sys.executable, "-m", "nas", *command(tmp_path, url)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(run, env=environment, text=True, **pipes) as search:
        victim = wait_for(lambda: worker_pids(url))[0]
        shutil.rmtree(temporary)
        os.kill(victim, signal.SIGKILL)
        out, err = search.communicate(timeout=2 * LIMIT_S)
    assert search.returncode == 0, err
    assert "1 worker was killed; started anew, nothing is lost" in err
    assert "report  " in out
    assert [t.state for t in open_study(url, NAME).trials()].count("running") == 0
