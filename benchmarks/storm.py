"""Many workers at once on one database, with trials that take no time: locks, duplicates, losses, trials a second.

    python benchmarks/storm.py                                # 16 processes on SQLite, 32 on PostgreSQL, 500 trials
    python benchmarks/storm.py --database sqlite --workers 8 --trials 200 --no-write

Each worker is a process that runs the real worker loop; only the training is replaced by five epochs that cost
nothing. Bounded by --trials in all. Everything stays on this machine: PostgreSQL is a temporary server. Writes
benchmarks/results/storm.json and the table of docs/distributed.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent.parent))

from nas.architecture import Architecture
from nas.documents import write_atomically
from nas.measurement import EpochRecord, Measurement, Outcome
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.store import tables
from nas.study.store.engine import open_engine
from nas.study.store.reader import Study, open_study
from nas.training.summary import DataSummary
from tests.postgres import running

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "storm.json"
PAGE = HERE.parent / "docs" / "distributed.md"
BEGIN, END = "<!-- storm: begin -->", "<!-- storm: end -->"
WORKERS = {"sqlite": 16, "postgresql": 32}
EPOCHS = 5
NAME = "storm"
SUMMARY = DataSummary(
    source="none",
    class_names=tuple("0123456789"),
    class_counts=(1,) * 10,
    in_chans=1,
    image_size=8,
    num_train=10,
    num_val=10,
    num_test=10,
    fingerprint="0" * 64,
)


def no_training(
    architecture: Architecture,
    *,
    on_epoch: Callable[[EpochRecord], str | None],
    should_stop: Callable[[], bool],  # noqa: ARG001 - the worker's protocol, here and below
    checkpoint: Path,  # noqa: ARG001
) -> Measurement:
    """Five epochs whose accuracy is a function of the architecture."""
    level = int(architecture.digest[:8], 16) / 16**8
    epochs = []
    for epoch in range(EPOCHS):
        record = EpochRecord(
            epoch=epoch,
            train_loss=1.0,
            val_loss=1.0,
            val_accuracy=level * (epoch + 1) / EPOCHS,
            learning_rate=0.1,
            grad_norm=1.0,
            train_s=0.0,
            val_s=0.0,
        )
        epochs.append(record)
        if (reason := on_epoch(record)) is not None:
            return _result(Outcome.STOPPED, epochs, reason)
    return _result(Outcome.COMPLETE, epochs, None)


no_training.device = "none"  # type: ignore[attr-defined]  # what the worker asks of a measure


def _result(outcome: Outcome, epochs: list[EpochRecord], reason: str | None) -> Measurement:
    return Measurement(
        outcome=outcome,
        score=epochs[-1].val_accuracy,
        seed=0,
        budget=EPOCHS,
        num_params=1,
        macs=1,
        wall_s=0.0,
        reason=reason,
        epochs=tuple(epochs),
    )


def work(url: str) -> None:
    """One worker; waits for the common start so that imports are not measured."""
    from nas.study.run.stop import StopFlag
    from nas.study.run.worker import Worker

    worker = Worker(open_study(url, NAME), no_training, stop=StopFlag())
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.process_time()
    worker.run()
    print(time.process_time() - started)


def verdict(study: Study, errors: list[str], seconds: float, num_workers: int) -> dict[str, object]:
    """What the database says afterwards."""
    trials = study.trials()
    with open_engine(study.url).connect() as connection:
        leases = connection.scalar(sa.select(sa.func.count()).select_from(tables.leases))
        measured = Counter(connection.scalars(sa.select(tables.measurements.c.trial_id)))
        per_worker = Counter(connection.scalars(sa.select(tables.measurements.c.worker_id)))
    digests = Counter(t.digest for t in trials)
    return {
        "workers": num_workers,
        "workers_that_worked": len(per_worker),
        "trials": len(trials),
        "states": dict(Counter(t.state for t in trials)),
        "seconds": round(seconds, 1),
        "trials_per_s": round(len(trials) / seconds, 1),
        "errors": errors,
        "lost": sum(t.state not in ("complete", "pruned") for t in trials),
        "twice": sum(n > 1 for n in measured.values()) + sum(n > 1 for n in digests.values()),
        "leases_left": leases,
    }


def storm(url: str, num_workers: int, num_trials: int, sampler: str) -> dict[str, object]:
    """Create a study, start the workers together, wait, and look at what came of it."""
    content = {"schema": 1, "name": NAME, "space": "full", "sampler": sampler, "trials": num_trials}
    config = StudyConfig.parse({**content, "training": {"epochs": EPOCHS}}, "storm")
    study, load = create_study(config, "", url, lambda _: SUMMARY), os.getloadavg()[0]
    command = [sys.executable, __file__, "--work", url]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(num_workers)
    ]
    for process in processes:
        process.stdout.readline()
    started = time.perf_counter()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    errors, cpu_s = [], 0.0
    for process in processes:
        out, err = process.communicate()
        if process.returncode:
            errors.append(err.strip().splitlines()[-1])
        else:
            cpu_s += float(out)
    found = verdict(study, errors, time.perf_counter() - started, num_workers)
    cpu_ms = round(1000 * cpu_s / num_trials, 1)
    return {**found, "sampler": sampler, "cpu_ms_per_trial": cpu_ms, "cores": os.cpu_count(), "load": round(load, 1)}


def table(results: dict[str, Any]) -> str:
    """The measured table of the documentation."""
    rows = ["| database | processes | trials | errors | lost | twice | trials/s | CPU a trial | cores, load before |"]
    rows.append("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    rows += [
        f"| {names[key]} | {one['workers']} | {one['trials']} | {len(one['errors'])} | {one['lost']} | "
        f"{one['twice']} | {one['trials_per_s']} | {one['cpu_ms_per_trial']:.0f} ms | {one['cores']}, {one['load']:g} |"
        for key, one in sorted(results.items(), reverse=True)
    ]
    return "\n".join(rows) + "\n"


def main() -> None:
    """Run the storms that are wanted, and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="default: both")
    parser.add_argument("--workers", type=int, help="default: 16 on SQLite, 32 on PostgreSQL")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--sampler", default="random", choices=["random", "tpe"])
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the temporary server ends with us
    if args.work:
        work(args.work)
        return
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for database, usual in WORKERS.items():
        if args.database not in (None, database):
            continue
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            server = stack.enter_context(running()) if database == "postgresql" else None
            url = server.url() if server else f"sqlite:///{folder}/nas.db"
            results[database] = storm(url, args.workers or usual, args.trials, args.sampler)
        print(database, json.dumps(results[database], indent=2), flush=True)
    if not args.no_write:
        write_atomically(RESULTS, json.dumps(results, indent=1) + "\n")
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        write_atomically(PAGE, f"{before}{BEGIN}\n{table(results)}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
