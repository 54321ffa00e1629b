"""Cheap scores of a shared network, a whole study beside the peer script, and the tests."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.card.setting import settings
from nas.estimate.shared_scoring import SharedScorer
from nas.estimate.shared_training import train_shared
from nas.space.space import SearchSpace

ROOT = Path(__file__).parents[2]
WORKERS = 4
STUDY = """\
schema: 1
name: speed
space: full
sampler: tpe
pruner: {name: median}
backbone: {name: resnet_micro, stem: small}
data: {source: digits}
training: {epochs: 5, batch_size: 64}
trials: 24
"""


def scores(device: str) -> dict[str, Any]:
    """Architectures of the space `full` that a shared network scores in an hour, once it is trained."""
    found, count = {}, 100 if device != "cpu" else 3
    for name in ("resnet_micro 24 px", "resnet18 32 px"):
        setting = settings(device)[name]
        data, space = setting.data(), SearchSpace.load("full").on(backbone=setting.architecture.backbone)
        trained = train_shared(space, "batch", data, setting.training(device, epochs=2), seed=0)
        scorer, random = SharedScorer(trained, data), np.random.default_rng(0)
        scorer.score(space.sample(random))  # warms up
        started = time.perf_counter()
        for _ in range(count):
            scorer.score(space.sample(random))
        elapsed = time.perf_counter() - started
        found[name] = {
            "scores_per_h": round(3600 * count / elapsed),
            "epoch_s": round(trained.train_s / len(trained.epochs), 2),
            "num_val": data.summary.num_val,
        }
    return found


def study(device: str) -> dict[str, Any]:
    """Seconds from prompt to prompt of 24 trials × 5 epochs on digits: workers that share the card, and the peer."""
    shared = ["--devices", "0", "--per-device", str(WORKERS)] if device != "cpu" else ["--devices", "cpu"]
    ours = [sys.executable, "-m", "nas", "search", "speed.yaml", "--workers", str(WORKERS), *shared]
    peer = [sys.executable, str(ROOT / "benchmarks" / "peer.py"), "--accelerator", "gpu" if device != "cpu" else "cpu"]
    found: dict[str, Any] = {"workers": WORKERS}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "speed.yaml").write_text(STUDY)
        for name, line in {"ours": ours, "peer": peer}.items():
            started = time.perf_counter()
            subprocess.run(line, cwd=folder, check=True, capture_output=True)
            found[f"{name}_s"] = round(time.perf_counter() - started, 1)
    found["ratio"] = round(found["peer_s"] / found["ours_s"], 2)
    return found


def tests(_: str) -> dict[str, Any]:
    """The test group `gpu`: how many passed, failed and were skipped."""
    line = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, flush=True)
    counts = re.findall(r"(\d+) (passed|failed|skipped|errors?)", done.stdout.strip().splitlines()[-1])
    return {what: int(number) for number, what in counts}
