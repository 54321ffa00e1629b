import subprocess
import sys

import pytest

from nas.errors import UserError
from nas.training.config import DATA_SOURCES, DataConfig, GuardConfig, TrainingConfig
from nas.training.signals import SIGNALS


@pytest.mark.parametrize("source", ["digits", "cluttered-digits", "folder:/a:b", "torch/cifar10:/data", "wds/x:/y"])
def test_known_sources_are_taken(source):
    assert DataConfig(source=source).source == source


@pytest.mark.parametrize("source", ["digit", "folder:", "folder", "torch/", "ftp/x"])
def test_an_unknown_source_is_named_with_those_that_are_known(source):
    with pytest.raises(UserError, match=rf"^s\.yaml: source: unknown data source '{source}'; known: digits, "):
        DataConfig.parse({"source": source}, "s.yaml")


def test_every_listed_scheme_is_a_source():
    assert all(DataConfig(source=name.replace("[", "").replace("]", "")) for name in DATA_SOURCES)


def test_fractions_leave_room_for_training():
    with pytest.raises(UserError, match=r"val_fraction \+ test_fraction must be below 1, got 0\.5 \+ 0\.6"):
        DataConfig.parse({"val_fraction": 0.5, "test_fraction": 0.6}, "s.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("momentum", 1),
        ("precision", "8-bit"),
        ("schedule", "linear"),
        ("device", "gpu"),
        ("device", "cuda:"),
        ("label_smoothing", 1),
        ("clip_grad_norm", 0),
        ("threads", 0),
    ],
)
def test_impossible_values_are_named(key, value):
    with pytest.raises(UserError, match=rf"^s\.yaml: {key}: .*{value!r}"):
        TrainingConfig.parse({key: value}, "s.yaml")


def test_thresholds_default_change_and_switch_off():
    names = {signal.name: signal.threshold for signal in GuardConfig().signals()}
    assert names == {signal.name: signal.default for signal in SIGNALS}
    chosen = GuardConfig(thresholds={"loss-spike": 7, "gradient-explosion": False}).signals()
    assert {signal.name: signal.threshold for signal in chosen} == {
        **{name: threshold for name, threshold in names.items() if name != "gradient-explosion"},
        "loss-spike": 7,
    }
    assert GuardConfig.off().signals() == ()
    assert [signal.name for signal in GuardConfig.only("loss-spike").signals()] == ["loss-spike"]


def test_an_unknown_signal_and_a_threshold_out_of_range_are_named():
    with pytest.raises(
        UserError, match=r"^s\.yaml: thresholds: unknown signal 'spike'; known: non-finite, broken-start, loss"
    ):
        GuardConfig.parse({"thresholds": {"spike": 3}}, "s.yaml")
    with pytest.raises(UserError, match=r"loss-spike: expected a number from 1 or off, got 0\.5"):
        GuardConfig.parse({"thresholds": {"loss-spike": 0.5}}, "s.yaml")
    with pytest.raises(UserError, match=r"skip-closed: expected a number from 0 to 1 or off, got 2\.0"):
        GuardConfig.parse({"thresholds": {"skip-closed": 2}}, "s.yaml")


def test_verdicts_default_and_change():
    assert {name: GuardConfig().verdict(name) for name in ("loss-spike", "dead-branch")} == {
        "loss-spike": "prune",
        "dead-branch": "warn",
    }
    assert GuardConfig(verdicts={"loss-spike": "recover"}).verdict("loss-spike") == "recover"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"verdicts": {"spike": "warn"}}, r"^s\.yaml: verdicts: unknown signal 'spike'; known: non-finite, "),
        (
            {"verdicts": {"loss-spike": "stop"}},
            r"^s\.yaml: verdicts\.loss-spike: .*'prune', 'warn' or 'recover'.*'stop'",
        ),
        ({"verdicts": {"non-finite": "recover"}}, r"non-finite: expected prune or warn, got recover"),
        ({"recover_factor": 2}, r"^s\.yaml: recover_factor: .* 1, got 2"),
    ],
)
def test_an_impossible_verdict_is_named(content, message):
    with pytest.raises(UserError, match=message):
        GuardConfig.parse(content, "s.yaml")


def test_the_configuration_needs_no_torch():
    code = "import sys, nas.training.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("source", "placed"),
    [
        ("digits", "digits"),
        ("folder:/a:b", "folder:/a:b"),
        ("folder:images", "folder:{0}/studies/images"),
        ("folder:../images", "folder:{0}/images"),
        ("folder:~/images", "folder:/home/ann/images"),
        ("torch/cifar10:data", "torch/cifar10:{0}/studies/data"),
        ("hfds/NAME", "hfds/NAME"),
        ("wds/x:https://host/{0000..0009}.tar", "wds/x:https://host/{0000..0009}.tar"),
        ("wds/x:pipe:cat x.tar", "wds/x:pipe:cat x.tar"),
    ],
)
def test_paths_start_at_a_folder(tmp_path, monkeypatch, source, placed):
    monkeypatch.setenv("HOME", "/home/ann")
    found = DataConfig(source=source).placed(tmp_path / "studies").source
    assert found == placed.replace("{0}", str(tmp_path))


@pytest.mark.parametrize(
    ("weights", "placed"), [(None, None), ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k"), ("w.pt", "{0}/w.pt")]
)
def test_weights_start_at_a_folder(tmp_path, weights, placed):
    found = TrainingConfig(init_from=weights).placed(tmp_path).init_from
    assert found == (placed and placed.replace("{0}", str(tmp_path)))
