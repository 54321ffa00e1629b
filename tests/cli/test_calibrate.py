import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.estimate.calibration.runner import Runner
from tests.cli.conftest import write_study

Nas = Callable[..., tuple[int, str, str]]


def test_a_calibration_prints_its_table_and_one_sentence(nas: Nas, tmp_path: Path) -> None:
    study, url = write_study(tmp_path), f"sqlite:///{tmp_path / 'nas.db'}"
    command = ("calibrate", study, "--storage", url, "--architectures", 8, "--seeds", 2)
    code, out, err = nas(*command)
    assert (code, out.splitlines()[0].split(":")[0]) == (0, "8 architectures × 2 seeds in full")
    assert "shared, 1 epoch, 3 networks, by loss" in out
    assert out.splitlines()[-1].startswith(("use ", "architectures do not differ", "no cheap score"))
    assert "runs · 100%" in err
    again = nas(*command, "--json")
    assert json.loads(again[1])["advice"] == out.splitlines()[-1]


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


def test_an_interrupted_calibration_goes_on(nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, url = write_study(tmp_path), f"sqlite:///{tmp_path / 'nas.db'}"
    command = ("calibrate", study, "--storage", url, "--architectures", 8, "--seeds", 2)
    done: list[str] = []
    do = Runner.do

    def stops(self: Runner, run: object) -> object:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(str(run))
        return do(self, run)

    with monkeypatch.context() as patched:
        patched.setattr(Runner, "do", stops)
        code, out, err = nas(*command)
    assert (code, out) == (130, "")
    assert "the same command goes on from here" in err
    code, _, err = nas(*command)
    assert code == 0
    assert "\n5/" in err
