"""Damaged, foreign and newer exports are one line that names the file; a whole one is told as such."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from safetensors.torch import load_file, save_file

from nas.errors import UserError
from nas.export import verify
from nas.export.onnx import OnnxModel, check_installed, write_onnx
from nas.export.timm_folder import check_replaceable, load_folder, write_folder

from .networks import EXPORTED, random_networks

[(ARCHITECTURE, MODEL), (_, OTHER)] = random_networks(2)
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "best", MODEL, ARCHITECTURE, **EXPORTED)
    return tmp_path / "best"


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "best.onnx"
    write_onnx(path, MODEL, ARCHITECTURE, **EXPORTED)
    return path


def edit(folder: Path, change: Change) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["fusion_nas"].update(schema=2), r"schema: expected 1, got 2; a newer fusion-nas wrote it"),
        (lambda c: c["fusion_nas"].update(digest="0" * 16), r"digest: 0{16} does not belong"),
        (lambda c: c["fusion_nas"].update(norm="group"), r"digest: .* does not belong"),
        (lambda c: c["model_args"].update(stem="imagenet"), r"model_args: expected those of architecture"),
        (lambda c: c.update(architecture="fusion_resnet18"), r"model_args: expected those of architecture"),
        (lambda c: c.pop("fusion_nas"), r"expected the key fusion_nas; this folder was not written by fusion-nas"),
        (lambda c: c.update(weights_sha256="12ab"), r"model.safetensors: expected the SHA-256 12ab"),
    ],
)
def test_config(folder: Path, change: Change, said: str) -> None:
    edit(folder, change)
    with pytest.raises(UserError, match=said):
        load_folder(folder)


def test_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    for damaged in (data[:-100], data[:5], b""):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match=r"model.safetensors: truncated or damaged"):
            load_folder(folder)
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match="the file was changed"):
        load_folder(folder)
    weights.unlink()
    with pytest.raises(UserError, match=r"model.safetensors: cannot be read: No such file"):
        load_folder(folder)


def test_weights_of_the_plain_network_are_not_taken_silently(folder: Path) -> None:
    weights = folder / "model.safetensors"
    plain = {key: value for key, value in load_file(weights).items() if key not in MODEL.fusion_keys()}
    save_file(plain, weights)
    edit(folder, lambda c: c.update(weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest()))
    with pytest.raises(UserError, match=f"does not belong to architecture {ARCHITECTURE.digest}"):
        load_folder(folder)


def test_folders_that_are_not_ours_are_kept(folder: Path, tmp_path: Path) -> None:
    check_replaceable(folder)
    check_replaceable(tmp_path / "new")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes.txt, which is not of an export"):
        check_replaceable(folder)
    (folder / "notes.txt").unlink()
    edit(folder, lambda c: c.pop("fusion_nas"))
    with pytest.raises(UserError, match="not written by fusion-nas; choose a new folder"):
        check_replaceable(folder)
    with pytest.raises(UserError, match="expected a folder to write, this is a file"):
        check_replaceable(folder / "config.json")


def test_onnx_files(onnx_file: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "x.onnx", onnx_file.read_bytes()
    for damaged in (data[: len(data) // 2], b"not a model"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"x.onnx: truncated or damaged"):
            OnnxModel(path)
    with pytest.raises(UserError, match=r"none.onnx: cannot be read"):
        OnnxModel(tmp_path / "none.onnx")
    proto = onnx.load(onnx_file)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    newer = {**metadata, "fusion_nas": json.dumps({**json.loads(metadata["fusion_nas"]), "schema": 2})}
    for props, said in ((newer, "expected 1, got 2"), ({}, "not written by fusion-nas")):
        del proto.metadata_props[:]
        onnx.helper.set_model_props(proto, props)
        onnx.save_model(proto, path)
        with pytest.raises(UserError, match=said):
            OnnxModel(path)


def test_onnx_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.export.onnx.find_spec", lambda name: None if name == "onnxruntime" else sys)
    with pytest.raises(UserError, match=r"needs onnxruntime: pip install 'fusion-nas\[onnx\]'"):
        check_installed()


def test_the_command(folder: Path, onnx_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder, onnx_file):
        assert verify.main([str(path)]) == 0
        assert capsys.readouterr().out == f"{path}: whole\n"
    (folder / "model.safetensors").write_bytes(b"")
    assert verify.main([str(folder)]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "truncated" in err
