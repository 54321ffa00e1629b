"""A search beside its peer where there is something to find, by the clock.

    python -m benchmarks.clocked            # 3 rounds, about 20 minutes on two idle cores; goes on where it stopped
    python -m benchmarks.clocked --report   # its part of docs/evidence.md from what is stored

Everything is a command as a user types it, timed from the prompt on: the peer (benchmarks/peer.py), studies/cued.yaml
as it is shipped, and a study that scores candidates on shared networks of the number and length that rank best there
for at most 15 % of the cost (docs/fidelity.md). Whatever was the best trained network at some moment is trained again
with seeds that no search has seen, by the recipe with which it was found.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import torch

from benchmarks import peer
from benchmarks.evidence import PAGE
from benchmarks.fidelity import MICRO, PROBLEMS
from benchmarks.markdown import fill, markdown
from nas.architecture import Architecture, Backbone
from nas.documents import dump_document, read_document, write_atomically
from nas.study.store.reader import open_study
from nas.training import run
from nas.training.data import open_data
from nas.training.data.source import DataSource

if TYPE_CHECKING:
    from nas.study.records import TrialRecord

RESULTS = Path(__file__).parent / "results" / "clocked.json"
CUED = PROBLEMS["cued"]
EPOCHS = CUED.training.epochs
TRIALS = 24
FRESH = tuple(range(100, 105))
"""Seeds of the trainings that judge."""
BACKBONE = Backbone(name=MICRO, stem="small")
SHIPPED = PAGE.parents[1] / "studies" / "cued.yaml"
SHARED = {"by": "shared", "epochs": 2 * EPOCHS, "networks": 2, "measure": "accuracy", "candidates": 100}
FEW = {"space": "patterns", "landmarks": ["plain"], "trials": 4, "estimate": SHARED}
"""What the study on shared networks has otherwise than the shipped one."""

Found = dict[str, Any]
"""Seconds from prompt to prompt; and every network that was best for a while, in the order of time: when it was there,
and its accuracies with the fresh seeds. The last of them is the winner."""
Images = dict[str, np.ndarray]


def arrays(data: DataSource) -> Images:
    """What the peer reads: the same images and labels."""
    cpu = torch.device("cpu")
    parts = {"train": data.train_batches(batch_size=64, seed=0, on=cpu), "val": data.val_batches(batch_size=64, on=cpu)}
    found: Images = {}
    for part, batches in parts.items():
        images, labels = zip(*batches, strict=True)
        found |= {f"images_{part}": torch.cat(images).numpy(), f"labels_{part}": torch.cat(labels).numpy()}
    return found


def timed(line: list[str], folder: Path) -> float:
    """Wall-clock seconds of a command, with threads as at a user's prompt."""
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    env["PYTHONPATH"] = str(PAGE.parents[1])
    started = time.perf_counter()
    subprocess.run([sys.executable, *line], cwd=folder, env=env, check=True, capture_output=True)
    return round(time.perf_counter() - started, 1)


def by_peer(folder: Path, seed: int, images: Images) -> Found:
    """What a careful user writes with Optuna, Lightning and timm."""
    np.savez(folder / "cued.npz", **images)
    line = [peer.__file__, "--images", "cued.npz", "--epochs", str(EPOCHS), "--trials", str(TRIALS)]
    seconds = timed([*line, "--seed", str(seed)], folder)
    found = optuna.load_study(study_name="peer", storage=f"sqlite:///{folder}/peer.db").best_params
    loaders = peer.make_loaders(images, 64)
    fresh = [peer.train(found, loaders, seed=s, epochs=EPOCHS) for s in FRESH]
    return {"seconds": seconds, "best": [{"seconds": seconds, "fresh": fresh}]}


def by_study(folder: Path, seed: int, data: DataSource, **otherwise: object) -> Found:
    """`nas search` on a study file."""
    file, url = folder / "cued.yaml", f"sqlite:///{folder}/nas.db"
    file.write_text(dump_document({**read_document(SHIPPED), "seed": seed, **otherwise}, file))
    began = time.time()
    seconds = timed(["-m", "nas", "search", file.name, "--storage", url], folder)
    best: list[TrialRecord] = []
    complete = (trial for trial in open_study(url, "cued").trials() if trial.state == "complete")
    for trial in sorted(complete, key=lambda trial: trial.finished_at):
        if not best or trial.score > best[-1].score:
            best.append(trial)
    return {
        "seconds": seconds,
        "best": [
            {"seconds": round(one.finished_at.timestamp() - began, 1), "fresh": judged(one.architecture, data)}
            for one in best
        ],
    }


def judged(architecture: Architecture, data: DataSource) -> list[float]:
    """Accuracies with the fresh seeds; a network that breaks has reached chance."""
    config = CUED.training.model_copy(update={"threads": 1})
    scores = (run.train(architecture, data, config, seed=seed).score for seed in FRESH)
    return [1 / data.num_classes if score is None else score for score in scores]


def measure(known: dict[str, list[Found]], rounds: int) -> None:
    """Add what is missing of so many rounds, each way in turn, and keep it."""
    data = open_data(CUED.data)
    images = arrays(data)
    plain = Architecture.plain(BACKBONE, num_classes=data.num_classes, in_chans=data.in_chans)
    if "plain" not in known:
        known["plain"] = [{"best": [{"fresh": judged(plain, data)}]}]
    ways: dict[str, Callable[[Path, int], Found]] = {
        "peer": lambda folder, seed: by_peer(folder, seed, images),
        "shipped": lambda folder, seed: by_study(folder, seed, data),
        "shared": lambda folder, seed: by_study(folder, seed, data, **FEW),
    }
    for number in range(rounds):
        for name, way in ways.items():
            if len(known.setdefault(name, [])) > number:
                continue
            with tempfile.TemporaryDirectory() as folder:
                known[name].append(way(Path(folder), number))
            print(number, name, known[name][-1], flush=True)
            write_atomically(RESULTS, json.dumps(known, indent=1) + "\n")


def part_clocked(known: Mapping[str, list[Found]]) -> str:
    """A row a way of searching, and what it says."""
    names = {
        "plain": "the plain network alone, no search",
        "peer": f"the peer: {TRIALS} trials, TPE and a median pruner, timm's attention in the branch",
        "shipped": "`nas search studies/cued.yaml`",
        "shared": f"`nas search`: {SHARED['candidates']} candidates on {SHARED['networks']} shared networks, "
        "the best 3 and plain trained",
    }
    heads = ("way", "winner's mean over five fresh seeds", "seconds in all", "until as good as the peer's winner")
    peers = [mean(found["best"][-1]["fresh"]) for found in known["peer"]]
    rows, answers = [], []
    for name, rounds in known.items():
        means = [mean(found["best"][-1]["fresh"]) for found in rounds]
        searched = zip(rounds, peers, strict=True) if name in ("shipped", "shared") else ()
        reached = [until(found, wanted) for found, wanted in searched]
        rows.append(
            (
                names[name],
                " ".join(f"{value:.3f}" for value in means),
                " ".join(f"{found['seconds']:.0f}" for found in rounds if "seconds" in found) or "–",
                " ".join("never" if seconds is None else f"{seconds:.0f}" for seconds in reached) or "–",
            )
        )
        if reached and None not in reached:
            sooner = [theirs["seconds"] / mine for theirs, mine in zip(known["peer"], reached, strict=True)]
            gains = [100 * (mine - theirs) for mine, theirs in zip(means, peers, strict=True)]
            which = "The shipped study" if name == "shipped" else "The one on shared networks"
            answers.append(
                f"{which} holds a network as good as the peer's winner {min(sooner):.1f} to {max(sooner):.1f} times "
                f"sooner, and ends {min(gains):.0f} to {max(gains):.0f} points above it."
            )
    return "\n".join((*markdown(heads, rows), "", f"**Answer.** {' '.join(answers)}"))


def until(found: Found, wanted: float) -> float | None:
    """Seconds until a search holds a network whose mean over the fresh seeds is as good as that; None: never."""
    return next((one["seconds"] for one in found["best"] if mean(one["fresh"]) >= wanted), None)


def main() -> None:
    """Measure what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", action="store_true", help="only write the page from what is stored")
    arguments = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not arguments.report:
        measure(known, arguments.rounds)
    write_atomically(PAGE, fill(PAGE.read_text(encoding="utf-8"), {"clocked": part_clocked(known)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
