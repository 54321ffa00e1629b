"""Does the guard stop what breaks, leave alone what learns, and cost little?

    python benchmarks/guard.py                            # records what is missing, judges all, writes docs/guard.md
    python benchmarks/guard.py --judge                    # judges what is recorded, also with rules that are new
    python benchmarks/guard.py --tasks "few, 8 epochs" --seeds 0
    python benchmarks/guard.py --overhead                 # measures the overhead afresh

Every case is trained to the end by a guard that never speaks and keeps all that it sees: that is the truth, because
watching changes no result (`test_watching_changes_no_result`). What the guard makes of it is worked out from what was
kept, step by step, so that a change of its rules needs no new training. Recordings are kept in
benchmarks/results/guard, run by run; several processes may record tasks of their own.

A run *failed* where it was not finite or its balanced accuracy ended below the middle between chance and the plain
network of the same task; it *broke* where it was not finite, ended at chance, or lost half of what it had.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.guarding import overhead, sets  # noqa: E402
from benchmarks.guarding.judge import Judged, judged, plain_scores  # noqa: E402
from benchmarks.guarding.record import Pack, record  # noqa: E402
from benchmarks.guarding.table import table  # noqa: E402
from benchmarks.guarding.tasks import MICRO, Task, cases, tasks  # noqa: E402
from nas.architecture import Architecture  # noqa: E402
from nas.documents import write_atomically  # noqa: E402
from nas.training.checkpoint import Checkpoint  # noqa: E402
from nas.training.config import DataConfig, TrainingConfig  # noqa: E402
from nas.training.data import open_data  # noqa: E402
from nas.training.run import train  # noqa: E402

OVERHEAD = HERE / "results" / "guard.json"
PAGE = HERE.parent / "docs" / "guard.md"
BEGIN, END = "<!-- guard: begin -->", "<!-- guard: end -->"


def prepare(root: Path) -> None:
    """The files that tasks need: a folder of images, and weights to go on from."""
    sets.jpegs(root / "jpegs")
    recipe = TrainingConfig(epochs=16, device="cpu", threads=1)
    digits = open_data(DataConfig(num_train=768))
    plain = Architecture.plain(MICRO, num_classes=10, in_chans=1)
    train(plain, digits, recipe, seed=0, checkpoint=root / "plain.ckpt")
    torch.save(Checkpoint.load(root / "plain.ckpt").model, root / "plain.pt")


def measure(task: Task, seeds: list[int]) -> None:
    """Record what is missing of a task."""
    data, pack = open_data(task.data), Pack.of(task.name)
    for seed in seeds:
        for case in cases(task, seed, num_classes=data.num_classes, in_chans=data.in_chans):
            if case.key(seed) not in pack.runs:
                pack.add(case.key(seed), record(case, data, seed))
                print(case.key(seed), flush=True)


def judge(every: dict[str, Task]) -> Iterator[Judged]:
    """All runs that are recorded, of tasks whose plain network is among them."""
    for task in every.values():
        runs = Pack.of(task.name).runs
        if plain := plain_scores(runs):
            for key, run in sorted(runs.items()):
                yield judged(key, run, plain=plain, held_out=int(key.rpartition(" / ")[2]) in task.held_out)


def main() -> None:
    """Record, judge and write what is wanted."""
    names = list(tasks(Path()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", type=int, nargs="+", help="only these of each task's seeds")
    parser.add_argument("--judge", action="store_true", help="record nothing")
    parser.add_argument("--overhead", action="store_true", help="measure the overhead, and nothing else")
    parser.add_argument("--no-write", action="store_true", help="leave the page as it is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    costs: dict[str, Any] = json.loads(OVERHEAD.read_text()) if OVERHEAD.exists() else {}
    if args.overhead:
        costs = overhead.overhead()
        write_atomically(OVERHEAD, json.dumps(costs) + "\n")
    elif not args.judge:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder))
            for name in args.tasks:
                task = tasks(Path(folder))[name]
                measure(task, [s for s in (*task.seeds, *task.held_out) if s in (args.seeds or (s,))])
    text = "\n".join([table(list(judge(tasks(Path())))), *overhead.table(costs)])
    print(text)
    if not args.no_write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        write_atomically(PAGE, f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
