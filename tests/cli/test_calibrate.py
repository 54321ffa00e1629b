import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas.cli import main
from nas.study.store import tables
from nas.study.store.engine import open_engine
from nas.study.store.reader import calibrations_in
from tests import warm
from tests.cli.conftest import write_study
from tests.study.test_crash import LIMIT_S, wait_for, worker_pids

Nas = Callable[..., tuple[int, str, str]]


RUNS = 30
"""8 x 2 full ones, 8 on half of the images, 6 shared networks; a brief one would be as long as a full one."""


def command(study: Path, url: str, *more: object) -> list[str]:
    return ["calibrate", str(study), "--storage", url, "--architectures", "8", "--seeds", "2", *map(str, more)]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """URL of a database with a finished calibration, and the study file."""
    folder = tmp_path_factory.mktemp("calibrated")
    study, url = write_study(folder), f"sqlite:///{folder / 'nas.db'}"
    assert main(command(study, url)) == 0
    return url, str(study)


def test_a_calibration_prints_its_table_and_one_sentence(nas: Nas, calibrated: tuple[str, str]) -> None:
    url, study = calibrated
    code, out, err = nas(*command(Path(study), url))
    assert (code, err, out.splitlines()[0].split(":")[0]) == (0, "", "8 architectures × 2 seeds in full")
    assert "shared, 1 epoch, 3 networks, by loss" in out
    assert out.splitlines()[-1].startswith(("use ", "architectures do not differ", "no cheap score"))
    again = nas(*command(Path(study), url, "--json"))
    assert json.loads(again[1])["advice"] == out.splitlines()[-1]
    assert len(results(url)) == RUNS


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--architectures", 7, "calibrate: architectures: input should be greater than or equal to 8, got 7"),
        ("--seeds", 1, "calibrate: seeds: input should be greater than or equal to 2, got 1"),
    ],
)
def test_too_small_a_calibration_is_one_line(nas: Nas, tmp_path: Path, option: str, value: int, message: str) -> None:
    code, out, err = nas("calibrate", write_study(tmp_path), option, value)
    assert (code, out, err) == (2, "", f"nas: {message}\n")


def results(url: str) -> dict[str, object]:
    """What may not depend on how often a calibration was broken off."""
    with open_engine(url).connect() as connection:
        rows = connection.execute(sa.select(tables.calibrations.c.run, tables.calibrations.c.result)).all()
    return {run: result.get("scores", result.get("accuracy")) for run, result in rows}


def test_killed_and_interrupted_it_is_the_same_calibration(calibrated: tuple[str, str], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    line = command(write_study(tmp_path), url, "--workers", 2)
    launcher = warm.Command(*line)
    wait_for(lambda: worker_pids(url))
    killed = worker_pids(url)[0]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: len(results(url)) >= 2)
    launcher.send_signal(signal.SIGINT)
    _, err = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 130, err
    assert "interrupted, running trainings wait again; the same command goes on from here" in err
    (calibration,) = calibrations_in(url, "tiny")
    assert not any(trial.state == "running" for trial in calibration.trials())
    before = len(results(url))
    again = warm.run(*line)
    assert again.returncode == 0, again.stderr
    assert f"{RUNS - before} runs to do" in again.stderr
    assert results(url) == results(calibrated[0])
    assert [trial.state for trial in calibration.trials()] == ["complete"] * RUNS


def test_the_launcher_needs_no_torch() -> None:
    code = (
        "import sys, nas.cli.calibrate, nas.cli.progress, nas.study.launch.create, nas.study.launch.engines.local\n"
        "from nas.study.calibration import conclude, prepare, task\n"
        "print([m for m in ('torch', 'lightning', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
