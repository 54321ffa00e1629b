import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nas.architecture import Architecture, Backbone, StageFusion

Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    stage = StageFusion(pattern="p1", attention="se")
    backbone = Backbone(name="resnet_micro", stem="small")
    Architecture(backbone=backbone, num_classes=3, in_chans=1, stages=(stage,) * 4).save(tmp_path / "arch.yaml")
    return tmp_path / "arch.yaml"


def test_table(nas: Nas, file: Path) -> None:
    code, out, err = nas("cost", file, "--input-size", 16, "--batch", 2)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:5]] == ["this", "parameters", "MACs", "latency,"]
    assert "batch 2 of 1×16×16 on cpu, 1 thread" in out


def test_json(nas: Nas, file: Path) -> None:
    code, out, _ = nas("cost", file, "--json", "--input-size", 16)
    content = json.loads(out)
    assert (code, content["input_size"], content["batch"], content["threads"]) == (0, [1, 16, 16], 1, 1)
    fused, plain = content["fused"], content["plain"]
    assert content["ratios"]["num_params"] == fused["num_params"] / plain["num_params"] > 1
    assert fused["latency_low_ms"] <= fused["latency_ms"] <= fused["latency_high_ms"]


def test_wrong_options(nas: Nas, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = nas("cost", file, "--device", "cuda")
    assert (code, out) == (2, "")
    assert "device: 'cuda' asked for, but this machine has none" in err
    code, out, err = nas("cost", file, "--batch", 0)
    assert (code, out) == (2, "")
    assert "batch" in err
