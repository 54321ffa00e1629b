"""Many workers at once on one database, with trials that take no time: locks, duplicates, losses, trials a second.

    python benchmarks/storm.py                     # 16 processes x 500 trials (SQLite), 32 x 250 (PostgreSQL); studies
    python benchmarks/storm.py --only sqlite --workers 8 --each 20 --no-write
    python benchmarks/storm.py --only studies      # four studies of four workers in one database against one of them

Each worker is a process that runs the real worker loop; only the training is replaced by five epochs that cost
nothing, or, for the comparison of studies, last without computing: what is compared is who waits for whom, not cores.
Everything stays on this machine: PostgreSQL is a temporary server. Writes benchmarks/results/storm.json and the
tables of docs/distributed.md.
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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.untrained import SUMMARY
from nas.architecture import Architecture
from nas.documents import write_atomically
from nas.measurement import EpochRecord, Measurement, Outcome
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.store import tables
from nas.study.store.engine import open_engine
from nas.study.store.reader import open_study
from tests.postgres import running

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "storm.json"
PAGE = HERE.parent / "docs" / "distributed.md"
BEGIN, END = "<!-- storm: begin -->", "<!-- storm: end -->"
STORMS = {"sqlite": (16, 500), "postgresql": (32, 250)}
"""Workers, and trials for each of them."""
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
EPOCHS = 5
STUDIES, STUDY_WORKERS, STUDY_EACH = 4, 4, 40
EPOCH_S = 0.5
"""What an epoch lasts where studies are compared."""


@dataclass(frozen=True)
class NoTraining:
    """A worker's measure: five epochs whose accuracy is a function of the architecture."""

    epoch_s: float
    """What an epoch lasts, without computing."""
    device: str = "none"

    def __call__(
        self, architecture: Architecture, *, on_epoch: Callable[[EpochRecord], str | None], **_: object
    ) -> Measurement:
        level = int(architecture.digest[:8], 16) / 16**8
        epochs = []
        for epoch in range(EPOCHS):
            time.sleep(self.epoch_s)
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


def work(url: str, name: str, epoch_s: float) -> None:
    """One worker; waits for the common start so that imports are not measured."""
    from nas.study.run.stop import StopFlag
    from nas.study.run.worker import Worker

    worker = Worker(open_study(url, name), NoTraining(epoch_s), stop=StopFlag())
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.process_time()
    worker.run()
    print(time.process_time() - started)


def verdict(url: str, names: Sequence[str], seconds: float) -> dict[str, Any]:
    """What the database says afterwards."""
    studies = [open_study(url, name).trials() for name in names]
    trials = [trial for study in studies for trial in study]
    with open_engine(url).connect() as connection:
        leases = connection.scalar(sa.select(sa.func.count()).select_from(tables.leases))
        measured = Counter(connection.scalars(sa.select(tables.measurements.c.trial_id)))
        per_worker = Counter(connection.scalars(sa.select(tables.measurements.c.worker_id)))
    twice = sum(n > 1 for study in studies for n in Counter(trial.digest for trial in study).values())
    return {
        "workers_that_worked": len(per_worker),
        "trials": len(trials),
        "states": dict(Counter(t.state for t in trials)),
        "seconds": round(seconds, 1),
        "trials_per_s": round(len(trials) / seconds, 1),
        "lost": sum(t.state not in ("complete", "pruned") for t in trials),
        "twice": twice + sum(n > 1 for n in measured.values()),
        "leases_left": leases,
    }


def storm(
    url: str, *, workers: int, each: int, sampler: str = "random", studies: int = 1, epoch_s: float = 0.0
) -> dict[str, Any]:
    """Create studies, start all of their workers together, wait, and look at what came of it."""
    load, names = os.getloadavg()[0], [f"storm-{number}" for number in range(studies)]
    for name in names:
        content = {"schema": 1, "name": name, "space": "full", "sampler": sampler, "trials": workers * each}
        create_study(
            StudyConfig.parse({**content, "training": {"epochs": EPOCHS}}, "storm"), "", url, lambda _: SUMMARY
        )
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", url, name, str(epoch_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
        for _ in range(workers)
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
    found = verdict(url, names, time.perf_counter() - started)
    return {
        "workers": workers * studies,
        "each": each,
        **found,
        "errors": errors,
        "sampler": sampler,
        "cpu_ms_per_trial": round(1000 * cpu_s / found["trials"], 1),
        "cores": os.cpu_count(),
        "load": round(load, 1),
    }


def on(database: str, **wanted: Any) -> dict[str, Any]:
    """A storm on a database of its own."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server = stack.enter_context(running()) if database == "postgresql" else None
        found = storm(server.url() if server else f"sqlite:///{folder}/nas.db", **wanted)
    print(database, json.dumps(found, indent=2), flush=True)
    return found


def table(results: dict[str, Any]) -> str:
    """The measured tables of the documentation."""
    rows = [
        "| database | processes | trials each | errors | lost | twice | trials/s | CPU a trial | cores, load before |"
    ]
    rows.append("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    rows += [
        f"| {name} | {one['workers']} | {one['each']} | {len(one['errors'])} | {one['lost']} | "
        f"{one['twice']} | {one['trials_per_s']} | {one['cpu_ms_per_trial']:.0f} ms | {one['cores']}, {one['load']:g} |"
        for key, name in NAMES.items()
        if (one := results.get(key))
    ]
    rows += ["", "| database | one study of four workers | four studies of four workers | ratio | aim |"]
    rows.append("|---|---:|---:|---:|---:|")
    for key, name in NAMES.items():
        if pair := results.get("studies", {}).get(key):
            one, four = (part["trials_per_s"] for part in pair)
            rows.append(f"| {name} | {one} trials/s | {four} trials/s | {four / one:.2f} | ≥ 3 |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Run the storms that are wanted, and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*STORMS, "studies"], help="default: all")
    parser.add_argument("--workers", type=int, help="default: 16 on SQLite, 32 on PostgreSQL")
    parser.add_argument("--each", type=int, help="trials for each worker; default: 500 on SQLite, 250 on PostgreSQL")
    parser.add_argument("--sampler", default="random", choices=["random", "tpe"])
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the temporary server ends with us
    if args.work:
        url, name, epoch_s = args.work
        work(url, name, float(epoch_s))
        return
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for database, (workers, each) in STORMS.items():
        if args.only in (None, database):
            wanted = {"workers": args.workers or workers, "each": args.each or each, "sampler": args.sampler}
            results[database] = on(database, **wanted)
    if args.only in (None, "studies"):
        same = {"workers": args.workers or STUDY_WORKERS, "each": args.each or STUDY_EACH, "epoch_s": EPOCH_S}
        results["studies"] = {
            database: [on(database, studies=studies, **same) for studies in (1, STUDIES)] for database in STORMS
        }
    if not args.no_write:
        write_atomically(RESULTS, json.dumps(results, indent=1) + "\n")
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        write_atomically(PAGE, f"{before}{BEGIN}\n{table(results)}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
