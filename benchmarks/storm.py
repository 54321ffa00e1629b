"""Many workers at once on one database, with trials that take no time: locks, duplicates, losses, trials a second.

    python benchmarks/storm.py --workers 16 --trials 500
    python benchmarks/storm.py --workers 32 --trials 200 --storage postgresql://USER@HOST/DATABASE

Each worker is a process that runs the real worker loop; only the training is replaced by five epochs that
cost nothing. Bounded by --trials in all.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from nas.architecture import Architecture
from nas.measurement import EpochRecord, Measurement, Outcome
from nas.study import tables
from nas.study.config import StudyConfig
from nas.study.launch import create_study
from nas.study.records import Study, open_study
from nas.study.storage import open_engine
from nas.training.data.summary import DataSummary

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
    from nas.study.worker import StopFlag, Worker

    worker = Worker(open_study(url, NAME), no_training, stop=StopFlag())
    print("ready", flush=True)
    sys.stdin.readline()
    worker.run()


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


def main() -> None:
    """Create a study, start the workers together, wait, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--sampler", default="random", choices=["random", "tpe"])
    parser.add_argument("--storage", help="an empty database; default: a new SQLite file")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        url = given.storage or f"sqlite:///{folder}/nas.db"
        config = StudyConfig.parse(
            {
                "schema": 1,
                "name": NAME,
                "space": "full",
                "sampler": given.sampler,
                "trials": given.trials,
                "training": {"epochs": EPOCHS},
            },
            "storm",
        )
        study = create_study(config, "", url, lambda _: SUMMARY)
        command = [sys.executable, __file__, "--work", url]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(given.workers)
        ]
        for process in processes:
            process.stdout.readline()
        started = time.perf_counter()
        errors = []
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            _, err = process.communicate()
            if process.returncode:
                errors.append(err.strip().splitlines()[-1])
        print(json.dumps(verdict(study, errors, time.perf_counter() - started, given.workers), indent=2))


if __name__ == "__main__":
    main()
