"""One worker against two on the same list of trials, interleaved in one run: what the second one is worth.

    python benchmarks/scaling.py --pairs 3

Each study trains the same trials (random draws, no pruner) with one CPU thread a worker. The time runs from the first
trial's start to the last one's end, as the database has it, so that imports are not counted; it is worth nothing on
a busy machine, whose load is printed with it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from nas.study.records import open_study  # noqa: E402

STUDY = """\
schema: 1
name: scaling
space: full
sampler: random
pruner: {name: none}
backbone: {name: resnet_micro, stem: small}
data: {source: digits, num_train: 512}
training: {epochs: 4, batch_size: 64, threads: 1, device: cpu}
trials: 24
"""


def seconds(folder: Path, name: str, workers: int) -> float:
    """Time from the first trial's start to the last one's end."""
    url = f"sqlite:///{folder / f'{name}.db'}"
    file = folder / "scaling.yaml"
    file.write_text(STUDY)
    command = [sys.executable, "-m", "nas", "search", str(file), "--storage", url, "--workers", str(workers)]
    subprocess.run(command, check=True, capture_output=True)
    trials = open_study(url, "scaling").trials()
    began = min(trial.started_at for trial in trials if trial.started_at)
    ended = max(trial.finished_at for trial in trials if trial.finished_at)
    return (ended - began).total_seconds()


def main() -> None:
    """Measure pairs of studies, and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        for pair in range(args.pairs):
            load = os.getloadavg()[0]
            one, two = (seconds(Path(name), f"{pair}-{workers}", workers) for workers in (1, 2))
            ratios.append(two / one)
            row = {"one_s": round(one, 1), "two_s": round(two, 1), "ratio": round(two / one, 3), "load": round(load, 1)}
            print(json.dumps(row), flush=True)
    print(json.dumps({"ratio": round(median(ratios), 3), "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
