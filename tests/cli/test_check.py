import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.architecture import Architecture, Backbone, StageFusion
from nas.fusion import check as module
from nas.fusion.check import CheckLine

Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    stage = StageFusion(pattern="p2", attention="se", lambda_init=0.1)
    backbone = Backbone(name="resnet_micro", stem="small")
    Architecture(backbone=backbone, num_classes=3, stages=(stage,) * 4).save(tmp_path / "arch.yaml")
    return tmp_path / "arch.yaml"


def test_table_and_json(nas: Nas, file: Path) -> None:
    code, out, err = nas("check", file)
    assert (code, err) == (0, "")
    assert out.startswith("resnet_micro  p2 se/16 λ0.1")
    assert "pass  p2-sum-first" in out
    assert out.endswith("pass, 0 warn, 0 fail\n")
    code, out, _ = nas("check", file, "--json")
    content = json.loads(out)
    assert (code, content["passed"], content["architecture"]) == (0, True, Architecture.load(file).digest)
    assert all(line.keys() == {"name", "question", "verdict", "evidence"} for line in content["lines"])


def test_a_failed_line_is_exit_code_1(nas: Nas, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = CheckLine(name="multiplied", question="does attention multiply?", verdict="fail", evidence="layer1.0: 0.5")
    monkeypatch.setattr(module, "check", lambda _: (bad,))
    code, out, _ = nas("check", file)
    assert code == 1
    assert "fail  multiplied  does attention multiply?  layer1.0: 0.5" in out
    code, out, _ = nas("check", file, "--json")
    assert (code, json.loads(out)["passed"]) == (1, False)


@pytest.mark.parametrize("command", ["check", "cost"])
def test_bad_files_are_one_line(nas: Nas, tmp_path: Path, file: Path, command: str) -> None:
    code, out, err = nas(command, tmp_path / "none.yaml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "none.yaml: no such file" in err
    changed = tmp_path / "changed.yaml"
    changed.write_text(file.read_text().replace("lambda_init: 0.1", "lambda_init: 0.2"))
    code, out, err = nas(command, changed)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "changed.yaml: digest:" in err
