"""Ray on one node with two actors, and Slurm's path through submitit's executor of this machine."""

import os
import signal
from pathlib import Path

import pytest

from nas.errors import UserError
from nas.study.config import StudyConfig
from nas.study.launch import engines
from nas.study.launch.create import create_study
from nas.study.launch.engines import Request, make_engine
from nas.study.launch.engines.ray import RayEngine
from nas.study.launch.engines.slurm import SlurmEngine
from nas.study.store.reader import open_study
from tests import warm
from tests.cli.conftest import write_study
from tests.study.conftest import SUMMARY
from tests.study.test_crash import LIMIT_S, parent, wait_for, worker_pids


def host(pid: int) -> int:
    """The process of the cluster that wanted a worker: the parent of the server that has forked it."""
    return parent(parent(pid))


def start(folder: Path, url: str, *options: str) -> warm.Command:
    file = write_study(folder, trials=4, training={"epochs": 2, "batch_size": 64})
    return warm.Command("search", file, "--storage", url, *options)


def check(launcher: warm.Command, url: str) -> str:
    """Nothing was lost, nobody blamed; returns what was said."""
    _, err = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 0, err
    trials = open_study(url, "tiny").trials()
    assert [(t.state, t.crashes, len(t.epochs)) for t in trials] == [("complete", 0, 2)] * 4
    return err


def test_two_actors_work_on_one_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    said = check(start(tmp_path, url, "--engine", "ray", "--workers", "2", "--devices", "cpu"), url)
    assert "study 'tiny': 4 trials to do, 2 workers" in said
    assert "lost" not in said
    assert 1 <= len(open_study(url, "tiny").workers()) <= 2  # one may have done it all before the other came


def test_a_lost_actor_is_submitted_anew(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    launcher = start(tmp_path, url, "--engine", "ray", "--workers", "1", "--devices", "cpu")
    wait_for(lambda: worker_pids(url))
    worker = worker_pids(url)[0]
    for pid in (host(worker), parent(worker), worker):  # as if its node had gone
        os.kill(pid, signal.SIGKILL)
    assert "a Ray worker was lost; submitted anew, nothing is lost" in check(launcher, url)
    assert len(open_study(url, "tiny").workers()) == 2


def test_a_job_near_its_time_limit_hands_back_and_is_queued_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    launcher = start(tmp_path, url, "--engine", "slurm", "--engine-set", "cluster=local", "--workers", "1")
    wait_for(lambda: worker_pids(url))
    first = open_study(url, "tiny").workers()[0]
    os.kill(host(first.pid), signal.SIGUSR2)  # Slurm's signal before the time limit, as submitit asks for it
    check(launcher, url)
    workers = open_study(url, "tiny").workers()
    assert len(workers) == 2
    assert workers[0].ended_at is not None
    assert "Requeued job" in "".join(log.read_text() for log in (tmp_path / "tiny" / "slurm").glob("*_log.*"))


@pytest.mark.parametrize(("name", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_without_its_extra_names_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: engines.EngineName, module: str
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda wanted: None)
    expected = rf"--engine {name}: {module} is not installed; .*uv pip install 'fusion-nas\[{name}\]'"
    with pytest.raises(UserError, match=expected):
        make_engine(name, Request())


@pytest.mark.parametrize(
    ("resources", "request_", "count", "on_gpu"),
    [
        ({"CPU": 8.0}, Request(usual=4), 4, False),
        ({"CPU": 8.0}, Request(workers="auto"), 8, False),
        ({"CPU": 8.0, "GPU": 2.0}, Request(usual=4), 2, True),
        ({"CPU": 8.0, "GPU": 2.0}, Request(per_device=3), 6, True),
        ({"CPU": 8.0, "GPU": 2.0}, Request(devices=("cpu",), workers=5), 5, False),
    ],
)
def test_workers_fit_the_ray_cluster(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, float], request_: Request, count: int, on_gpu: bool
) -> None:
    monkeypatch.setattr("nas.study.launch.engines.ray._connect", lambda: resources)
    engine = RayEngine(request_)
    assert engine.num_workers == count
    assert (engine.per_gpu > 0) == on_gpu


REFUSED = [
    ("ray", Request(workers=9), "--workers: 9 asked for, but 8 CPU cores of the Ray cluster take 8"),
    ("ray", Request(devices=("cuda",), workers=1), "--devices: 0 GPUs of the Ray cluster take no worker"),
    ("ray", Request(devices=("cuda:0",)), "--devices: Ray deals out the GPUs"),
    ("slurm", Request(workers="auto"), "--workers auto: .*expected a number"),
    ("slurm", Request(devices=("cuda:0",)), "--devices: Slurm deals out the GPUs"),
    ("slurm", Request(options={"cluster": "moon"}), "--engine-set cluster=moon: expected slurm or local"),
    ("slurm", Request(options={"time": "soon"}), "--engine-set time=soon: expected whole minutes"),
]


@pytest.mark.parametrize(("name", "request_", "said"), REFUSED)
def test_what_a_cluster_cannot_do(
    monkeypatch: pytest.MonkeyPatch, name: engines.EngineName, request_: Request, said: str
) -> None:
    monkeypatch.setattr("nas.study.launch.engines.ray._connect", lambda: {"CPU": 8.0})
    with pytest.raises(UserError, match=said):
        make_engine(name, request_)


def test_nodes_do_not_share_an_sqlite_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = StudyConfig(name="s", space="patterns")
    study = create_study(config, "", f"sqlite:///{tmp_path / 'nas.db'}", lambda _: SUMMARY)
    monkeypatch.setattr("nas.study.launch.engines.ray._connect", lambda: {"CPU": 8.0})
    monkeypatch.setattr("nas.study.launch.engines.ray._num_nodes", lambda: 2)
    for engine in (RayEngine(Request()), SlurmEngine(Request())):
        with pytest.raises(UserError, match=r"cannot share an SQLite file; use --storage postgresql://"):
            engine.start(study, 1, None)


def test_slurm_without_slurm_and_options_that_it_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = StudyConfig(name="s", space="patterns")
    study = create_study(config, "", f"sqlite:///{tmp_path / 'nas.db'}", lambda _: SUMMARY)
    monkeypatch.setattr("nas.study.launch.engines.slurm.sqlite_path", lambda _: None)
    with pytest.raises(UserError, match=r"--engine slurm: Could not detect \"srun\""):
        SlurmEngine(Request()).start(study, 1, None)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("srun", "sbatch"):
        (programs / name).write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: moon' >&2\nexit 1\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(UserError, match=r"Unknown argument 'color' for executor 'slurm'"):
        SlurmEngine(Request(options={"color": "red"})).start(study, 1, None)
    with (
        pytest.raises(UserError, match=r"--engine slurm: .*invalid partition specified: moon"),
        SlurmEngine(Request(options={"partition": "moon"})).start(study, 1, None),
    ):
        pass
