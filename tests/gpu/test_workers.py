"""Workers that share a GPU, what they leave behind, and the process that forks them."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from nas.architecture import Architecture
from nas.measurement import Measurement, Outcome
from nas.study.launch import processes
from nas.study.store.reader import open_study
from nas.training.config import DataConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.run import train

from . import on_gpu

pytestmark = on_gpu

STUDY = {
    "schema": 1,
    "name": "card",
    "space": "patterns",
    "backbone": {"name": "resnet_micro", "stem": "small"},
    "data": {"source": "digits", "num_train": 256},
    "training": {"epochs": 2, "batch_size": 64, "precision": "bf16-mixed"},
    "landmarks": ["plain", "se-everywhere", "dual-default"],
    "trials": 8,
    "workers": 2,
}


@dataclass(frozen=True)
class Command:
    """Runs a command in a folder of its own; gives standard output."""

    folder: Path

    def __call__(self, *arguments: str) -> str:
        line = [sys.executable, "-m", "nas", *arguments, "--storage", "sqlite:///card.db"]
        done = subprocess.run(line, cwd=self.folder, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Command:
    folder = tmp_path_factory.mktemp("card")
    (folder / "card.yaml").write_text(yaml.safe_dump(STUDY))
    return Command(folder)


@pytest.fixture(scope="module")
def searched(nas: Command) -> Command:
    """The same, after a search by two workers on one card in bfloat16."""
    nas("search", "card.yaml", "--devices", "0", "--per-device", "2", "--workers", "2")
    return nas


def test_two_workers_share_a_card(searched: Command) -> None:
    trials = json.loads(searched("trials", "card", "--format", "json"))
    assert len(trials) == 8
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    workers = open_study(f"sqlite:///{searched.folder}/card.db", "card").workers()
    assert [worker.device for worker in workers] == ["cuda:0", "cuda:0"]


@pytest.mark.parametrize(("format_", "path"), [("timm", "best"), ("onnx", "best.onnx")])
def test_weights_that_were_trained_in_bfloat16_are_exported(searched: Command, format_: str, path: str) -> None:
    if format_ == "onnx":
        pytest.importorskip("onnxscript")
    searched("export", "card", "--format", format_, "-o", path)
    assert (searched.folder / path).exists()


def test_a_search_for_latency_is_done_by_workers_that_take_turns(nas: Command) -> None:
    changes = ["name=fast", "trials=4", "objectives={val_accuracy: maximize, latency_ms: minimize}"]
    sets = [word for change in changes for word in ("--set", change)]
    nas("search", "card.yaml", "--devices", "0", "--per-device", "2", "--workers", "2", *sets)
    trials = json.loads(nas("trials", "fast", "--format", "json"))
    assert "complete" in {trial["state"] for trial in trials}


# ── the server that forks ──


def cuda_was_touched() -> bool:
    return torch.cuda.is_initialized() or torch.cuda._is_in_bad_fork()


def trained(architecture: Architecture, config: TrainingConfig) -> Measurement:
    return train(architecture, open_data(DataConfig(num_train=128)), config, seed=0)


def test_a_forked_process_trains_and_the_server_stays_clean(fused: Architecture, brief: TrainingConfig) -> None:
    for _ in range(2):
        assert not processes.ask(cuda_was_touched)
        assert processes.ask(trained, fused, brief).outcome is Outcome.COMPLETE
