"""Every figure of speed in one run: training, a whole search beside its peer, overhead, blocks and commands.

    python benchmarks/speed.py                       # writes benchmarks/results/speed.json and docs/speed.md
    python benchmarks/speed.py --only throughput overhead --no-write

What is compared is run in turns, so that whatever else the machine does falls on all of it alike; a ratio is the
median over the rounds of the ratio within a round, with its smallest and largest value. What runs on one thread is
measured in CPU time, which other processes disturb least; whole commands in both, wall clock and CPU time. The load
of the machine before each part stands beside its figures. Parts that are not run keep their stored figures.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest import mock

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
import optuna  # noqa: E402
import torch  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from benchmarks import blocks  # noqa: E402
from benchmarks.epochs import bare_loop, worker_loop  # noqa: E402
from benchmarks.paired import Ratio, in_turns, ratio  # noqa: E402
from nas.architecture import Architecture, Backbone  # noqa: E402
from nas.documents import write_atomically  # noqa: E402
from nas.errors import NasError  # noqa: E402
from nas.measurement import EpochRecord, Measurement, Outcome  # noqa: E402
from nas.space.space import SearchSpace  # noqa: E402
from nas.study.config import StudyConfig  # noqa: E402
from nas.study.launch.create import create_study  # noqa: E402
from nas.study.run.stop import StopFlag  # noqa: E402
from nas.study.run.training import Training  # noqa: E402
from nas.study.run.worker import Worker  # noqa: E402
from nas.study.search.sampler import distributions  # noqa: E402
from nas.study.store.optuna_storage import close_storage, open_storage  # noqa: E402
from nas.study.store.reader import Study, calibrations_in, open_study  # noqa: E402
from nas.study.store.trials import Ledger  # noqa: E402
from nas.training import run  # noqa: E402
from nas.training.config import DataConfig, TrainingConfig  # noqa: E402
from nas.training.data import open_data  # noqa: E402

RESULTS = HERE / "results" / "speed.json"
PAGE = HERE.parent / "docs" / "speed.md"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
IMPORTS = "import torch, timm, lightning"
STUDY = """\
schema: 1
name: speed
space: full
sampler: tpe
pruner: {name: median}
backbone: {name: resnet_micro, stem: small}
data: {source: digits}
training: {epochs: 5, batch_size: 64, device: cpu}
trials: 24
workers: 2
"""

# Training


def throughput(args: argparse.Namespace) -> dict[str, Ratio]:
    """Epochs of a worker beside those of a bare loop; the first epoch of each warms up."""
    torch.set_num_threads(1)
    found = {}
    for name, stem, source, batch_size in (
        ("resnet_micro", "small", DataConfig(source="digits"), 64),
        ("resnet18", "small", DataConfig(source="digits", image_size=32, num_train=192), 64),
    ):
        data = open_data(source)
        backbone = Backbone(name=name, stem=stem)
        architecture = Architecture.plain(backbone, num_classes=10, in_chans=1)
        config = TrainingConfig(
            epochs=4 if name == "resnet_micro" else 3, batch_size=batch_size, threads=1, device="cpu"
        )
        with tempfile.TemporaryDirectory() as folder:
            runs = {
                "bare": lambda a=architecture, d=data, c=config: median(bare_loop(a, d, c)[1:]),
                "worker": lambda a=architecture, d=data, c=config, f=folder: median(worker_loop(a, d, c, Path(f))),
            }
            found[name] = ratio(in_turns(runs, args.rounds), "bare", "worker")
    return found


# A whole search


def adopt_orphans() -> None:
    """What a command leaves behind as it ends becomes ours: the CPU time of forked workers is that of their server."""
    set_child_subreaper = 36  # linux/prctl.h
    ctypes.CDLL(None).prctl(set_child_subreaper, 1)


def command(line: list[str], folder: Path, threads: int | None = None) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a command and what it starts."""
    hidden = ("OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")  # as at a user's prompt
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    env["PYTHONPATH"] = str(HERE.parent.resolve())
    env |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    adopt_orphans()
    before, started = os.times(), time.perf_counter()
    subprocess.run(line, cwd=folder, env=env, check=True, capture_output=True)
    wall = time.perf_counter() - started
    with suppress(ChildProcessError):  # until none is left
        while True:
            os.wait()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu


def search(args: argparse.Namespace) -> dict[str, Any]:
    """24 trials of 5 epochs on digits from prompt to prompt: two of our workers, and the peer's one process."""
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    peer = [sys.executable, str(HERE.resolve() / "peer.py")]
    for _ in range(args.searches):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "speed.yaml").write_text(STUDY)
            ours = [sys.executable, "-m", "nas", "search", "speed.yaml"]
            lines = {"ours": (ours, None), "peer on one thread": ([*peer, "--storage", "sqlite:///one.db"], 1)}
            lines |= {} if args.one_thread else {"peer": (peer, None)}
            for key, (line, threads) in lines.items():
                seconds = command(line, folder, threads)
                wall.setdefault(key, []).append(round(seconds[0], 2))
                cpu.setdefault(key, []).append(round(seconds[1], 2))
    peers = [key for key in wall if key != "ours"]
    return {key: {"wall": ratio(wall, key, "ours"), "cpu": ratio(cpu, key, "ours")} for key in peers}


# Overhead


def fill(study: Study, count: int) -> None:
    """Finish this many trials without training: architectures of the space at random, five epochs each."""
    space, storage = SearchSpace.from_dict(study.space), open_storage(study.url)
    ledger, known = Ledger(storage.engine, study.study_id, "filler"), distributions(space)
    draw = np.random.default_rng(0)
    stored = optuna.load_study(study_name=study.name, storage=storage)
    done = sum(trial.state.is_finished() for trial in stored.get_trials(deepcopy=False))
    while done < count:
        architecture = space.sample(draw)
        params = space.encode(architecture) or {}
        score = float(draw.random())
        trial_id = storage.create_new_trial(
            study.study_id,
            template_trial=create_trial(
                state=TrialState.COMPLETE,
                value=score,
                params=params,
                distributions={name: known[name] for name in params},
                intermediate_values={step: score * step / 5 for step in range(1, 6)},
            ),
        )
        if ledger.own(trial_id, architecture) != trial_id:
            continue
        ledger.lease(trial_id)
        ledger.finish(trial_id, architecture.digest, measurement(score))
        ledger.release(trial_id)
        done += 1
    close_storage(storage)


def measurement(score: float) -> Measurement:
    """What a training could have given."""
    record = EpochRecord(
        epoch=0, train_loss=1, val_loss=1, val_accuracy=score, learning_rate=0.1, grad_norm=1, train_s=0, val_s=0
    )
    return Measurement(
        outcome=Outcome.COMPLETE,
        score=score,
        seed=0,
        budget=5,
        num_params=1,
        macs=1,
        wall_s=0.0,
        reason=None,
        epochs=(record,),
    )


class Timed:
    """A worker's measure that notes CPU time: when it began and ended, and how much was training and validation."""

    def __init__(self, training: Training) -> None:
        self.training, self.device = training, training.device
        self.calls: list[tuple[float, float, float]] = []

    def __call__(self, architecture: Architecture, **hooks: Any) -> Measurement:
        began = time.process_time()
        found = self.training(architecture, **hooks)
        learning = sum(epoch.train_s + epoch.val_s for epoch in found.epochs)
        self.calls.append((began, time.process_time(), learning))
        return found


def overhead(args: argparse.Namespace) -> dict[str, Any]:
    """CPU time of a worker's trials on a study with many finished ones, without training and validation."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    content = {"schema": 1, "name": "overhead", "space": "full", "sampler": "tpe", "landmarks": []}
    content |= {"data": {"source": "digits", "num_train": 128}, "training": {"epochs": 5, "threads": 1}}
    content |= {"trials": 10_000, "pruner": {"name": "median"}}
    config = StudyConfig.parse(content, "overhead")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/nas.db"
        study = create_study(config, "", url, lambda c: open_data(c.data).summary)
        for size in args.sizes:
            fill(study, size)
            measure = Timed(Training(study, device="cpu", threads=1))
            worker = Worker(open_study(url, "overhead"), measure, stop=StopFlag())
            # The clocks of the epochs count CPU time for once.
            with mock.patch.object(run, "time", SimpleNamespace(perf_counter=time.process_time)):
                worker.run(max_trials=args.trials + 1)
            # From the end of a training to the end of the next: what only a process's first trial costs is left out.
            around = [1000 * (began - ended) for (_, ended, _), (began, _, _) in pairwise(measure.calls)]
            inside = [1000 * (ended - began - learning) for began, ended, learning in measure.calls[1:]]
            found[str(size)] = {
                "training_ms": [round(v, 1) for v in inside],
                "all_ms": [round(a + i, 1) for a, i in zip(around, inside, strict=True)],
            }
            print(size, found[str(size)], flush=True)
    return found


# Commands


def commands(args: argparse.Namespace) -> dict[str, Any]:
    """`nas status` beside `optuna trials`, and the time to the first trial beside the imports that it needs."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = StudyConfig.parse({"schema": 1, "name": "many", "space": "full", "trials": 1000}, "many")
        study = create_study(config, "", f"sqlite:///{folder}/nas.db", lambda c: open_data(c.data).summary)
        fill(study, args.listed)
        status = [sys.executable, "-m", "nas", "status", "many", "--storage", study.url]
        trials = [str(Path(sys.executable).parent / "optuna"), "trials", "--study-name", "many"]
        trials += ["--storage", study.url]
        for clock, index in (("wall", 0), ("cpu", 1)):
            runs = {"nas status": lambda i=index: command(status, folder)[i]}
            runs["optuna trials"] = lambda i=index: command(trials, folder)[i]
            found[f"status {clock}"] = ratio(in_turns(runs, args.rounds), "nas status", "optuna trials")
        (folder / "speed.yaml").write_text(STUDY)
        runs = {
            "first trial": lambda: first_begun(folder, lambda url: [open_study(url, "speed")]),
            "first run": lambda: first_begun(
                folder, lambda url: calibrations_in(url, "speed"), "--set", "estimate=auto"
            ),
            "imports": lambda: command([sys.executable, "-c", IMPORTS], folder)[0],
        }
        runs["imports"]()  # the files are in memory from here on
        seconds = in_turns(runs, args.rounds)
        found |= {what: ratio(seconds, what, "imports") for what in ("first trial", "first run")}
    return found


def first_begun(folder: Path, studies: Callable[[str], Sequence[Study]], *options: str) -> float:
    """Seconds from the prompt until the database says that a trial of ``studies`` has begun."""
    url = f"sqlite:///{folder}/first-{time.time_ns()}.db"
    line = [sys.executable, "-m", "nas", "search", "speed.yaml", "--workers", "1", "--storage", url, *options]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    started = datetime.now(UTC).timestamp()
    process = subprocess.Popen(
        line, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while True:
            time.sleep(0.02)
            try:
                begun = [trial.started_at for one in studies(url) for trial in one.trials() if trial.started_at]
            except NasError:
                continue
            if begun:
                return min(begun).timestamp() - started
    finally:
        process.terminate()
        process.wait()


# Blocks


def steps(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Steps and memory of CBAM in p2 and p4, as benchmarks/blocks.py measures them."""
    torch.set_num_threads(1)
    asked = argparse.Namespace(
        only=["p2-cbam", "p4-cbam"], device="cpu", precision="float32", batch=16, size=96, rounds=args.steps
    )
    found = [cost for backbone in ("resnet18", "resnet50") for cost in blocks.measure(backbone, asked)]
    gc.collect()
    return [asdict(cost) for cost in found if cost.fusion != "plain"]


PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "throughput": throughput,
    "search": search,
    "overhead": overhead,
    "steps": steps,
    "commands": commands,
}
STEP_AIMS = {
    ("resnet18", "p2-cbam"): 1.20,
    ("resnet18", "p4-cbam"): 1.15,
    ("resnet50", "p2-cbam"): 1.25,
    ("resnet50", "p4-cbam"): 1.25,
}


def shown(one: Ratio) -> str:
    return f"{one['ratio']:.2f} ({one['low']:.2f}–{one['high']:.2f})"


def rows(results: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What, the aim, the figure with its spread, and the part that it is of."""
    found = []
    for name, one in results.get("throughput", {}).items():
        found.append((f"training, images/s of a worker ÷ bare loop, {name}", "≥ 0.95", shown(one), "throughput"))
    for name, one in results.get("search", {}).items():
        found.append((f"24 trials × 5 epochs, wall clock: {name} ÷ ours", "≥ 3", shown(one["wall"]), "search"))
        found.append((f"24 trials × 5 epochs, CPU time: {name} ÷ ours", "", shown(one["cpu"]), "search"))
    for size, one in results.get("overhead", {}).items():
        for key, what in (("all_ms", "in all"), ("training_ms", "set-up")):  # the rest: benchmarks/draws.py
            values = one[key]
            text = f"{median(values):.0f} ms ({min(values):.0f}–{max(values):.0f})"
            aim = "≤ 100 ms" if (size, key) == ("1000", "all_ms") else ""
            where = f"a trial without its training at {int(size):,} finished ones, {what}"
            found.append((where, aim, text, "overhead"))
    for one in results.get("steps", []):
        low, high = one["step_ratio_spread"]
        text = f"{one['step_ratio']:.2f} ({low:.2f}–{high:.2f})"
        where = f"{one['backbone']} {one['fusion']}"
        found.append((f"step ÷ plain, {where}", f"≤ {STEP_AIMS[one['backbone'], one['fusion']]:.2f}", text, "steps"))
        found.append((f"peak memory ÷ plain, {where}", "≤ 1.15", f"{one['memory_ratio']:.2f}", "steps"))
    names = {
        "status wall": ("`nas status` ÷ `optuna trials`, wall clock", "≤ 0.5"),
        "status cpu": ("`nas status` ÷ `optuna trials`, CPU time", "≤ 0.5"),
        "first trial": ("`nas search` to its first trial ÷ bare imports, wall clock", "≤ 1.5"),
        "first run": ("`nas search` to the first run of its calibration ÷ bare imports, wall clock", "≤ 1.5"),
    }
    for key, one in results.get("commands", {}).items():
        found.append((*names[key], shown(one), "commands"))
    return found


def table(results: dict[str, Any]) -> str:
    """Markdown: every figure with its aim, its spread and the load under which it was taken."""
    machine = results["machine"]
    lines = [
        f"torch {machine['torch']} on {machine['processor']}, {machine['cores']} cores. Load: processes that wanted a "
        "core before the part and after it, of which this benchmark is one or two.",
        "",
        "| figure | aim | median (range) | load |",
        "|---|---:|---:|---:|",
    ]
    for what, aim, value, part in rows(results):
        before, after = results["load"][part]
        lines.append(f"| {what} | {aim} | {value} | {before:.1f}, {after:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is wanted, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--searches", type=int, default=3, help="rounds of whole searches")
    parser.add_argument("--one-thread", action="store_true", help="the peer on one thread only")
    parser.add_argument("--steps", type=int, default=15, help="rounds of training steps")
    parser.add_argument("--trials", type=int, default=10, help="trials whose overhead is measured")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000], help="finished trials")
    parser.add_argument("--listed", type=int, default=200, help="trials that nas status and optuna trials read")
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"load": {}}
    results["machine"] = {
        "torch": torch.__version__,
        "processor": blocks.processor(),
        "cores": os.cpu_count(),
    }
    for part in args.only or PARTS:
        before = os.getloadavg()[0]
        results[part] = PARTS[part](args)
        results["load"][part] = [round(before, 1), round(os.getloadavg()[0], 1)]
        if not args.no_write:
            write_atomically(RESULTS, json.dumps(results, indent=1) + "\n")
    text = table(results)
    print(text)
    if not args.no_write:
        before_table, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        write_atomically(PAGE, f"{before_table}{BEGIN}\n{text}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
