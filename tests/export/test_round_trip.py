"""What leaves by each format comes back as it was. `benchmarks/export_roundtrip.py` does the same at length."""

from pathlib import Path

import pytest
import timm
import torch

from nas.architecture import Architecture, Backbone, StageFusion
from nas.export.onnx import OnnxModel, write_onnx
from nas.export.timm_folder import load_folder, write_folder

from .networks import EXPORTED, LABELS, PREPROCESSING, PROVENANCE, probes, random_networks, trained_model

NETWORKS = list(random_networks(12))


@pytest.mark.parametrize(("architecture", "model"), NETWORKS, ids=lambda value: getattr(value, "digest", ""))
def test_yaml_json_and_timm(architecture: Architecture, model: torch.nn.Module, tmp_path: Path) -> None:
    for name in ("a.yaml", "a.json"):
        architecture.save(tmp_path / name, PROVENANCE)
        assert Architecture.load(tmp_path / name) == architecture.canonical()
    folder = tmp_path / "timm"
    write_folder(folder, model, architecture, **EXPORTED)
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        assert torch.equal(loaded(probes()), model(probes()))
        assert torch.equal(load_folder(folder)(probes()), model(probes()))


@pytest.mark.parametrize(("architecture", "model"), NETWORKS[:6], ids=lambda value: getattr(value, "digest", ""))
def test_onnx(architecture: Architecture, model: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    write_onnx(path, model, architecture, **EXPORTED)
    loaded = OnnxModel(path)
    with torch.inference_mode():
        expected = model(probes())
    assert expected.std(0).mean() > 1
    for size in (1, 5):  # the batch is dynamic
        torch.testing.assert_close(loaded(probes()[:size]), expected[:size], rtol=0, atol=1e-4)
    assert loaded.architecture == architecture.canonical()
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]  # weights inside


def test_single_blocks(deep_micro: None, tmp_path: Path) -> None:
    fusion = StageFusion(pattern="p4", attention="cbam", gamma_skip_init=0.05, learnable=True)
    architecture = Architecture(
        backbone=Backbone(name="resnet_micro", stem="small"),
        num_classes=len(LABELS),
        in_chans=1,
        stages=(StageFusion(), fusion, fusion.model_copy(update={"blocks": (0, 2)}), StageFusion()),
    )
    model = trained_model(architecture)
    for ending in ("yaml", "json"):
        architecture.save(tmp_path / f"a.{ending}", PROVENANCE)
        assert Architecture.load(tmp_path / f"a.{ending}").canonical() == architecture.canonical()
    write_folder(tmp_path / "timm", model, architecture, **EXPORTED)
    write_onnx(tmp_path / "a.onnx", model, architecture, **EXPORTED)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    with torch.inference_mode():
        expected = model(probes())
        assert torch.equal(loaded(probes()), expected)
    torch.testing.assert_close(OnnxModel(tmp_path / "a.onnx")(probes()), expected, rtol=0, atol=1e-4)
    assert OnnxModel(tmp_path / "a.onnx").architecture == architecture.canonical()
    assert "@0,2 |" in (tmp_path / "timm" / "README.md").read_text()


def test_what_timm_is_told(tmp_path: Path) -> None:
    architecture, model = NETWORKS[0]
    write_folder(tmp_path / "a", model, architecture, **EXPORTED)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True)
    config = timm.data.resolve_model_data_config(loaded)
    assert {key: list(v) if isinstance(v, tuple) else v for key, v in config.items()} == PREPROCESSING
    assert loaded.pretrained_cfg["num_classes"] == 10
    assert tuple(loaded.pretrained_cfg["label_names"]) == LABELS
    assert "license" not in loaded.pretrained_cfg
    card = (tmp_path / "a" / "README.md").read_text()
    for said in (
        "0.9123",
        "0.8765",
        "0.8800 to 0.9400",
        "0123456789abcdef",
        "f" * 64,
        architecture.digest,
        "local-dir:",
    ):
        assert said in card
    assert "absent" not in card


def test_the_card_of_a_confirmed_network_gives_its_test_figures(tmp_path: Path) -> None:
    architecture, model = NETWORKS[0]
    test = {
        "accuracy": 0.7111,
        "interval": [0.6912, 0.7313],
        "accuracy_of_plain": 0.6514,
        "interval_of_plain": [0.6415, 0.6616],
        "above_plain": {"value": 0.0597, "interval": [0.0418, 0.0719], "p_adjusted": 0.0021},
        "accuracy_of_these_weights": 0.7222,
        "seeds": [1000, 1001, 1002, 1003, 1004],
        "num_test": 363,
    }
    write_folder(tmp_path / "a", model, architecture, **EXPORTED | {"provenance": PROVENANCE | {"test": test}})
    card = (tmp_path / "a" / "README.md").read_text()
    for said in (
        "with 5 seeds",
        "on 363 images",
        "| 0.7111 | 0.6514 |",
        "| 0.6912 to 0.7313 | 0.6415 to 0.6616 |",
        "+0.0597 above the plain one",
        "from +0.0418 to +0.0719 (p = 0.0021",
        "test accuracy is 0.7222",
    ):
        assert said in card, said
    without = tmp_path / "b"
    write_folder(without, model, architecture, **EXPORTED)
    assert "## Test" not in (without / "README.md").read_text()
