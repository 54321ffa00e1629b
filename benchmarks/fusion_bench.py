"""Make FusionBench: train the 625 architectures of `nas.bench` with three seeds, and keep every epoch.

    python benchmarks/fusion_bench.py --workers 2          # what is missing; Ctrl-C loses only the running trainings
    python benchmarks/fusion_bench.py --architectures 100  # no further than the first 100
    python benchmarks/fusion_bench.py --state              # how far it is

The file is nas/bench/fusion_bench.npz, which ships with the package. It is written anew after each run, so the same
command goes on after any interruption. Rows are the uniform networks, then all others in a fixed random order; all
seeds of one come before the next.
"""

import argparse
import hashlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import nas
from nas.architecture import Architecture
from nas.bench.table import DATA, FILE, SEEDS, TRAINING, Table, load_table
from nas.documents import write_atomically
from nas.measurement import Measurement
from nas.study.launch.create import provenance
from nas.training.config import GuardConfig
from nas.training.data import describe, open_data
from nas.training.run import train
from nas.training.signals import SIGNALS

PATH = Path(__file__).parents[1] / "nas" / "bench" / FILE
WATCH = GuardConfig(verdicts={signal.name: "warn" for signal in SIGNALS})
"""Every signal is written down and none ends a run: the truth is what a training gives when nobody stops it."""


class HasDo(Protocol):
    """Some work."""

    def do(self) -> Any:
        """Do it, here or in a worker process."""


Doable = TypeVar("Doable", bound=HasDo)


@dataclass(frozen=True)
class Run:
    """One training of the table, by its place there."""

    row: int
    column: int
    architecture: Architecture

    def do(self) -> tuple[Measurement, float]:
        """Train; gives the result and its CPU seconds."""
        started = time.process_time()
        found = train(self.architecture, _data(), TRAINING, seed=SEEDS[self.column], guard=WATCH)
        return found, time.process_time() - started


_opened: list[Any] = []


def _data() -> Any:
    """The images, opened once in a process."""
    if not _opened:
        _opened.append(open_data(DATA))
    return _opened[0]


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent


def code_digest() -> str:
    """First 16 hex digits of the SHA-256 of the sources that a training depends on."""
    package = Path(nas.__file__).parent
    sources = [
        package / "architecture.py",
        *sorted(package.glob("fusion/*.py")),
        *sorted(package.glob("training/**/*.py")),
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def opened(path: Path) -> tuple[Table, int]:
    """The table so far and the number of this making, which is noted in it."""
    summary = describe(DATA)
    table = load_table(path) if path.exists() else Table.empty({"num_val": summary.num_val, "makers": []})
    if table.meta.setdefault("fingerprint", summary.fingerprint) != summary.fingerprint:
        raise SystemExit("the data is not that of the table; delete the file to begin anew")
    maker = {"fusion_nas": nas.__version__, "code": code_digest(), **provenance()}
    if maker not in table.meta["makers"]:
        table.meta["makers"].append(maker)
    return table, table.meta["makers"].index(maker)


def enter(table: Table, run: Run, found: Measurement, cost_s: float, maker: int) -> None:
    """Write one run into the table's arrays."""
    at, num_val = (run.row, run.column), table.meta["num_val"]
    table.correct[at] = [round(epoch.val_accuracy * num_val) for epoch in found.epochs]
    table.val_loss[at] = [epoch.val_loss for epoch in found.epochs]
    table.train_loss[at] = [epoch.train_loss for epoch in found.epochs]
    table.cost_s[at], table.maker[at] = cost_s, maker
    table.num_params[run.row], table.macs[run.row] = found.num_params, found.macs
    names = [signal.name for signal in SIGNALS]
    for event in found.events:
        table.spoke[(*at, names.index(event.signal))] |= 1 << (event.stage or 0)


def done_runs(runs: Sequence[Doable], workers: int) -> Generator[tuple[Doable, Any], None, None]:
    """Each run with what its ``do`` gives, in the order in which they end; no worker outlives an interruption."""
    if workers == 1:
        yield from ((run, run.do()) for run in runs)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker) as pool:
        try:
            futures = {pool.submit(run.do): run for run in runs}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:  # Ctrl-C and the end of the caller too: it goes on once no worker trains any more
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def state(table: Table) -> str:
    """How far the table is, in a line."""
    runs, whole = int(table.made.sum()), int(table.made.all(1).sum())
    return f"{runs} of {table.made.size} runs, {whole} of {len(table.architectures)} architectures with every seed"


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--architectures", type=int, help="go no further than this row")
    parser.add_argument("--state", action="store_true", help="only say how far it is")
    parser.add_argument("--path", type=Path, default=PATH, help="another file than the one that ships")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end is an end like Ctrl-C
    table, maker = opened(arguments.path)
    print(state(table), file=sys.stderr)
    if arguments.state:
        return
    rows = list(enumerate(table.architectures))[: arguments.architectures]
    runs = [Run(r, c, a) for r, a in rows for c in range(len(SEEDS)) if not table.made[r, c]]
    last_told = time.monotonic()
    with closing(done_runs(runs, arguments.workers)) as ended:
        for run, (found, cost_s) in ended:
            enter(table, run, found, cost_s, maker)
            write_atomically(arguments.path, table.to_bytes())
            if time.monotonic() - last_told > 60:
                last_told = time.monotonic()
                print(state(replace(table)), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
