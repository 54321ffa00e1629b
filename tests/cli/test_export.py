"""``nas export`` of trained networks: verified, replaced in one step, refused in one line."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

import nas as package
from nas.cli import main
from nas.export import files, models
from nas.export.onnx import OnnxModel
from nas.export.timm_folder import load_folder, write_folder
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.store.reader import Study, open_study
from nas.training.config import DataConfig
from nas.training.data.digits import digits_of

from .conftest import write_study
from .test_errors import refused

Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Four trials of one epoch."""
    folder = tmp_path_factory.mktemp("study")
    url = f"sqlite:///{folder / 'nas.db'}"
    file = write_study(folder, space="full", trials=4, landmarks=["plain", "se-everywhere"])
    assert main(["search", str(file), "--storage", url]) == 0
    return open_study(url, "tiny")


@pytest.fixture
def export(nas: Nas, study: Study) -> Nas:
    return lambda *arguments: nas("export", "tiny", "--storage", study.url, *arguments)


def without_weights(study: Study) -> int:
    """A complete trial whose checkpoint is gone."""
    checkpoints = CheckpointFolder(study)
    return next(t.number for t in study.trials() if t.state == "complete" and not checkpoints.path(t.number).exists())


@pytest.mark.usefixtures("forked_verification")
def test_timm(export: Nas, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = study.best()
    assert best is not None
    assert best.score is not None
    folder = tmp_path / "exports" / "best"
    code, out, err = export("--format", "timm", "-o", folder)
    assert code == 0, err
    assert "logits differ by at most 0, " in out
    assert f"{best.score:.4f} (recorded {best.score:.4f})" in out
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["best"]
    assert [path.name for path in tmp_path.iterdir()] == ["exports"]

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    val = digits_of(DataConfig())["val"]
    images = torch.stack([transform(Image.fromarray(image[0])) for image in val.images])
    with torch.inference_mode():
        correct = (model(images).argmax(1) == torch.from_numpy(val.labels)).sum().item()
    assert correct == pytest.approx(best.score * len(val.labels), abs=1)  # float rounding of the pixels

    code, out, err = export("--format", "timm", "--trial", 0, "-o", folder, "--force")  # an export of ours is replaced
    assert code == 0, err
    plain = load_folder(folder).state_dict()
    assert plain.keys() < model.state_dict().keys()

    def wrong(path: Path, network: torch.nn.Module, *arguments: object, **more: object) -> None:
        changed = package.build_model(best.architecture).eval()
        changed.load_state_dict(network.state_dict())
        changed.fc.bias.data[3] += 0.01
        write_folder(path, changed, *arguments, **more)

    monkeypatch.setitem(models.WRITERS, "timm", wrong)
    code, out, err = export("--format", "timm", "-o", folder, "--force")
    assert (code, out) == (1, "")
    assert "logits differ by up to 0.01, expected at most 0; nothing was written" in err
    kept = load_folder(folder).state_dict()
    assert all(torch.equal(kept[key], value) for key, value in plain.items())
    assert [path.name for path in folder.parent.iterdir()] == ["best"]


def test_onnx(export: Nas, study: Study, tmp_path: Path) -> None:
    best = study.best()
    assert best is not None
    path = tmp_path / "best.onnx"
    code, out, err = export("-o", path)
    assert code == 0, err
    assert f"(recorded {best.score:.4f})" in out
    assert [file.name for file in tmp_path.iterdir()] == ["best.onnx"]
    model = OnnxModel(path)
    assert model.architecture.digest == best.digest
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


@pytest.mark.usefixtures("forked_verification")
def test_retrain(export: Nas, nas: Nas, study: Study, tmp_path: Path) -> None:
    number = without_weights(study)
    command = ("export", "tiny", "--storage", study.url, "--format", "timm", "--trial", number, "-o", tmp_path / "a")
    assert f"trial {number} of study 'tiny' has no weights any more" in refused(nas, *command)
    assert list(tmp_path.iterdir()) == []
    code, out, err = nas(*command, "--retrain")
    assert code == 0, err
    assert f"(recorded {study.trial(number).score:.4f})" in out


def test_refusals(nas: Nas, study: Study, tmp_path: Path) -> None:
    command = ("export", "tiny", "--storage", study.url)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    for arguments, said in (
        (("-o", tmp_path / "none" / "a.onnx"), f"there is no folder {tmp_path / 'none'}"),
        (("--format", "onnx", "-o", tmp_path / "a"), "ends in .onnx"),
        (("-o", tmp_path / "a"), "for a folder that timm loads say --format timm"),
        (("--format", "timm", "-o", tmp_path / "mine", "--force"), "holds thesis.tex"),
        (("--format", "timm", "-o", tmp_path / "file", "--force"), "this is a file"),
        (("--format", "timm", "-o", tmp_path / "file" / "a"), "cannot be written"),
        (("--format", "timm", "-o", tmp_path / "a", "--trial", 77), "trials: 0 to 3"),
        (("--format", "pickle", "-o", tmp_path / "a"), "'pickle'"),
        (("-o", tmp_path / "a.yaml", "--retrain"), "yaml carries no weights"),
    ):
        assert said in refused(nas, *command, *arguments)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "thesis.tex"]


def test_only_complete_trials(nas: Nas, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruned = replace(study.trials()[0], state="pruned")
    monkeypatch.setattr(files, "chosen_trial", lambda *_: pruned)
    command = ("export", "tiny", "--storage", study.url, "--format", "timm", "-o", tmp_path / "a")
    assert "trial 0 of study 'tiny' is pruned: only complete trials have trained weights" in refused(nas, *command)


def test_checkpoints(nas: Nas, study: Study, tmp_path: Path) -> None:
    command = ("export", "tiny", "--storage", study.url, "--format", "timm", "-o", tmp_path / "a")
    best = study.best()
    assert best is not None
    checkpoints = CheckpointFolder(study)
    path = checkpoints.path(best.number)
    data = path.read_bytes()
    other = next(t for t in study.trials() if t.number != best.number and checkpoints.path(t.number).exists())
    try:
        path.write_bytes(checkpoints.path(other.number).read_bytes())
        assert f"belongs to architecture {other.digest}, expected {best.digest}" in refused(nas, *command)
        path.write_bytes(data[:-1000])
        assert f"{path}: not a whole checkpoint" in refused(nas, *command)
    finally:
        path.write_bytes(data)
    assert list(tmp_path.iterdir()) == []


def test_an_architecture_needs_no_torch(study: Study, tmp_path: Path) -> None:
    code = (
        "import sys; from nas.cli import main; code = main(sys.argv[1:])\n"
        "print([m for m in ('torch', 'lightning', 'timm', 'optuna', 'onnx') if m in sys.modules], code)"
    )
    arguments = ["export", "tiny", "--storage", study.url, "-o", str(tmp_path / "best.yaml")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr
