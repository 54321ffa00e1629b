"""One worker against two on the same list of trials, interleaved in one run: what the second one is worth.

    python benchmarks/scaling.py --pairs 3      # writes its part of docs/distributed.md

Each study trains the same trials (random draws, no pruner) with one CPU thread a worker. The time runs from the first
trial's start to the last one's end, as the database has it, so that imports are not counted; it is worth nothing on
a busy machine, whose load is printed with it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.markdown import fill, markdown  # noqa: E402
from nas.documents import write_atomically  # noqa: E402
from nas.study.store.reader import open_study  # noqa: E402

PAGE = HERE.parent / "docs" / "distributed.md"

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
    """Measure pairs of studies, and write their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows, ratios = [], []
    with tempfile.TemporaryDirectory() as name:
        for pair in range(args.pairs):
            load = os.getloadavg()[0]
            one, two = (seconds(Path(name), f"{pair}-{workers}", workers) for workers in (1, 2))
            ratios.append(two / one)
            rows.append((f"{one:.1f} s", f"{two:.1f} s", f"{two / one:.2f}", f"{load:.1f}"))
            print(*rows[-1], flush=True)
    lines = markdown(("one worker", "two workers", "ratio", "load before"), rows)
    text = "\n".join((*lines, "", f"Median ratio on {os.cpu_count()} cores: {median(ratios):.2f} (aim: at most 0.55)."))
    write_atomically(PAGE, fill(PAGE.read_text(encoding="utf-8"), {"scaling": text}))


if __name__ == "__main__":
    main()
