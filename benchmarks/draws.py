"""What a study costs a worker as it grows: to open it, and to draw and store a trial. Nothing is trained.

    python benchmarks/draws.py                          # 1,000, 5,000 and 20,000 finished trials; rungs at 4,000
    python benchmarks/draws.py --sizes 1000 --trials 10 --no-write

Finished trials are written into SQLite in bulk, as a search would have left them: the space full, TPE, a median pruner
and five epochs each; with rungs three objectives and up to nine epochs. A worker then goes on, with a training that is
none. CPU time of one process, from the end of a training to the beginning of the next, so that other processes of the
machine disturb it least. Writes benchmarks/results/draws.json and the table of docs/speed.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, distribution_to_json

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.untrained import SUMMARY
from nas.architecture import Architecture
from nas.documents import write_atomically
from nas.fusion.cost import CostComparison
from nas.measurement import Cost, EpochRecord, Measurement, Outcome
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.goals import quantities
from nas.study.launch.create import create_study
from nas.study.pareto import best_first, losses_of
from nas.study.run.stop import StopFlag
from nas.study.run.worker import Worker
from nas.study.search.sampler import distributions
from nas.study.store import tables
from nas.study.store.reader import Study, open_study

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "draws.json"
PAGE = HERE.parent / "docs" / "speed.md"
BEGIN, END = "<!-- draws: begin -->", "<!-- draws: end -->"
AIMS_MS = {1000: 60, 4000: 120, 5000: 120, 20000: 250}
OPEN_AIMS_S = {5000: 2.0}
REASON = "asha"


def part(architecture: Architecture, place: int) -> float:
    """A number between 0 and 1 that is a network's own."""
    return int(architecture.digest[4 * place : 4 * place + 4], 16) / 0xFFFF


def cost_of(architecture: Architecture) -> Cost:
    params = 1000 + round(1000 * part(architecture, 1))
    return timed(params, 1 + part(architecture, 2))


def timed(params: int, latency_ms: float) -> Cost:
    return Cost(
        num_params=params,
        macs=params,
        latency_ms=latency_ms,
        latency_low_ms=latency_ms,
        latency_high_ms=latency_ms,
    )


def epoch_of(architecture: Architecture, epoch: int) -> EpochRecord:
    accuracy = part(architecture, 0) * (1 - 0.5 ** (epoch + 1))
    return EpochRecord(
        epoch=epoch,
        train_loss=1.0,
        val_loss=1.0,
        val_accuracy=accuracy,
        learning_rate=0.1,
        grad_norm=1.0,
        train_s=0.0,
        val_s=0.0,
    )


class NoTraining:
    """A worker's measure that takes no time and notes the CPU time at its beginnings and ends."""

    device = "none"

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.calls: list[tuple[float, float]] = []

    def cost(self, architecture: Architecture) -> CostComparison:
        plain = timed(1000, 1.0)
        return CostComparison(
            fused=cost_of(architecture), plain=plain, input_size=(1, 8, 8), batch=1, device=self.device, threads=1
        )

    def __call__(
        self, architecture: Architecture, *, on_epoch: Callable[[EpochRecord], str | None], **_: object
    ) -> Measurement:
        began = time.process_time()
        ran: list[EpochRecord] = []
        reason = None
        while len(ran) < self.epochs and reason is None:
            ran.append(epoch_of(architecture, len(ran)))
            reason = on_epoch(ran[-1])
        self.calls.append((began, time.process_time()))
        return Measurement(
            outcome=Outcome.STOPPED if reason else Outcome.COMPLETE,
            reason=reason,
            score=ran[-1].val_accuracy,
            seed=0,
            budget=self.epochs,
            num_params=1,
            macs=1,
            wall_s=0.0,
            epochs=tuple(ran),
        )


# Finished trials, in bulk


def fill(study: Study, count: int) -> None:
    """Finish so many trials: networks of the space at random, at rungs as many stopped as a search would stop."""
    space, config = SearchSpace.from_dict(study.space), study.settings
    draw, drawn = np.random.default_rng(0), {}
    while len(drawn) < count:
        architecture = space.sample(draw)
        drawn.setdefault(architecture.digest, architecture)
    networks = list(drawn.values())
    epochs = run_epochs(config, networks)
    known = distributions(space)
    choices = Choices(space, known, {name: distribution_to_json(known[name]) for name in known})
    engine = sa.create_engine(study.url)
    rows: dict[str, list[dict[str, Any]]] = {}
    first = len(study.trials())  # the landmarks wait
    for number, (architecture, num_epochs) in enumerate(zip(networks, epochs, strict=True), start=first):
        for table, row in trial_rows(study, choices, number, architecture, num_epochs):
            rows.setdefault(table, []).append(row)
    metadata = sa.MetaData()
    metadata.reflect(engine, only=list(rows))
    with engine.begin() as connection:
        for table, values in rows.items():
            connection.execute(sa.insert(metadata.tables[table]), values)
    engine.dispose()


def run_epochs(config: StudyConfig, networks: list[Architecture]) -> list[int]:
    """After how many epochs each of some trials ended."""
    ran = [config.training.epochs] * len(networks)
    if not config.goals.several:
        return ran
    left = np.arange(len(networks))
    for level in config.pruner.rungs(config.training.epochs):
        losses = losses_of(config.goals, [values_of(config, networks[i], level) for i in left])
        order = best_first(losses)
        go_on = len(left) // config.pruner.reduction_factor
        for i in left[order[go_on:]]:
            ran[i] = level
        left = left[order[:go_on]]
    return ran


def values_of(config: StudyConfig, architecture: Architecture, num_epochs: int) -> list[float]:
    """Of the objectives after so many epochs."""
    known = quantities([epoch_of(architecture, epoch) for epoch in range(num_epochs)], cost_of(architecture))
    return [known[name] for name in config.goals.names]


@dataclass(frozen=True)
class Choices:
    """What a space asks, and how Optuna stores it."""

    space: SearchSpace
    known: Mapping[str, CategoricalDistribution]
    texts: Mapping[str, str]


def trial_rows(
    study: Study, choices: Choices, number: int, architecture: Architecture, num_epochs: int
) -> list[tuple[str, dict[str, Any]]]:
    """One trial in every table that knows of it."""
    config, ours = study.settings, {"trial_id": number + 1, "study_id": study.study_id}
    trial, digest, several = {"trial_id": number + 1}, architecture.digest, config.goals.several
    complete = num_epochs == config.training.epochs
    moment = datetime(2026, 1, 1)
    state = {"number": number, "state": "COMPLETE" if complete else "PRUNED"}
    rows = [
        ("trials", {**ours, **state, "datetime_start": moment, "datetime_complete": moment}),
        ("nas_architectures", {"digest": digest, "content": architecture.canonical().to_dict()}),
        ("nas_trials", {**ours, "digest": digest, "crashes": 0, "reason": None if complete else REASON}),
    ]
    for name, answer in (choices.space.encode(architecture) or {}).items():
        value = choices.known[name].to_internal_repr(answer)
        asked = {"param_name": name, "param_value": value, "distribution_json": choices.texts[name]}
        rows.append(("trial_params", {**trial, **asked}))
    values = values_of(config, architecture, num_epochs)
    for objective, value in enumerate(values) if complete else ():
        rows.append(("trial_values", {**trial, "objective": objective, "value": value, "value_type": "FINITE"}))
    if not complete:
        stopped = json.dumps({"epochs": num_epochs, "values": values})
        rows.append(("trial_user_attributes", {**trial, "key": "stopped", "value_json": stopped}))
    for epoch in range(num_epochs):
        record = epoch_of(architecture, epoch)
        rows.append(("nas_epochs", {**trial, "seed": config.seed, **asdict(record)}))
        if not several:
            reported = {"intermediate_value": record.val_accuracy, "intermediate_value_type": "FINITE"}
            rows.append(("trial_intermediate_values", {**trial, "step": epoch + 1, **reported}))
    if several:
        fused = {key: value for key, value in asdict(cost_of(architecture)).items() if key in tables.costs.c}
        rows.append(("nas_costs", {**ours, **fused, "plain_latency_ms": 1.0, "device": "none", "broken": None}))
        rungs = [level for level in config.pruner.rungs(config.training.epochs) if level < num_epochs]
        rows += [("nas_promotions", {**ours, "epochs": level}) for level in rungs]
    outcome = {"outcome": Outcome.COMPLETE.value if complete else Outcome.STOPPED.value, "reason": rows[2][1]["reason"]}
    run = {"seed": config.seed, "budget": config.training.epochs, "score": values[0], "num_params": 1, "macs": 1}
    ended = {"wall_s": 0.0, "worker_id": "filler", "finished_at": moment.timestamp()}
    rows.append(("nas_measurements", {**ours, "digest": digest, **outcome, **run, **ended}))
    return rows


# Measuring


def content(kind: str) -> dict[str, Any]:
    """The study file of one kind of search."""
    common = {"schema": 1, "name": kind, "space": "full", "sampler": "tpe", "landmarks": [], "trials": 100_000}
    if kind == "median":
        return common | {"training": {"epochs": 5}, "pruner": {"name": "median"}}
    objectives = {"val_accuracy": "maximize", "params": "minimize", "latency_ms": "minimize"}
    return common | {
        "objectives": objectives,
        "training": {"epochs": 9},
        "pruner": {"name": "asha", "min_epochs": 1, "reduction_factor": 3},
    }


def measured(kind: str, size: int, trials: int) -> dict[str, Any]:
    """CPU seconds of opening a study of this size, and milliseconds of each trial after that."""
    with tempfile.TemporaryDirectory() as folder:
        config = StudyConfig.parse(content(kind), kind)
        study = create_study(config, "", f"sqlite:///{folder}/nas.db", lambda _: SUMMARY)
        fill(study, size)
        began = time.process_time()
        study.trials()
        read = time.process_time() - began
        measure = NoTraining(config.training.epochs)
        began = time.process_time()
        worker = Worker(open_study(study.url, kind), measure, stop=StopFlag())
        worker.study.get_trials(deepcopy=False)
        opened = time.process_time() - began
        worker.run(max_trials=trials + 1)
    around = [1000 * (begin - end) for (_, end), (begin, _) in pairwise(measure.calls)]
    inside = [1000 * (end - begin) for begin, end in measure.calls[1:]]
    row = {"kind": kind, "size": size, "open_s": round(opened, 2), "read_s": round(read, 2)}
    row |= {"draw_ms": [round(v, 1) for v in around], "epochs_ms": [round(v, 1) for v in inside]}
    print(kind, size, opened, read, statistics.median(around), statistics.median(inside), flush=True)
    return row


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ms ({min(values):.0f}–{max(values):.0f})"


def table(results: list[dict[str, Any]]) -> str:
    """One row a study, as Markdown."""
    lines = [
        "| study | finished trials | drawing and storing a trial | aim | storing and judging its epochs "
        "| a worker opens the study | aim | all records read |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    names = {"median": "one objective, median pruner", "rungs": "three objectives, rungs"}
    for row in results:
        size = row["size"]
        aim = f"≤ {AIMS_MS[size]} ms" if size in AIMS_MS else ""
        opening = f"≤ {OPEN_AIMS_S[size]:.0f} s" if size in OPEN_AIMS_S and row["kind"] == "median" else ""
        cells = [names[row["kind"]], f"{size:,}", shown(row["draw_ms"]), aim, shown(row["epochs_ms"])]
        cells += [f"{row['open_s']:.1f} s", opening, f"{row['read_s']:.1f} s"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 5000, 20000], help="one objective")
    parser.add_argument("--rungs", type=int, nargs="*", default=[4000], help="three objectives and rungs")
    parser.add_argument("--trials", type=int, default=20, help="drawn at each size")
    parser.add_argument("--no-write", action="store_true", help="print the table only")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results = [measured("median", size, args.trials) for size in args.sizes]
    results += [measured("rungs", size, args.trials) for size in args.rungs]
    print(table(results))
    if not args.no_write:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        write_atomically(PAGE, f"{before}{BEGIN}\n{table(results)}\n{rest[rest.index(END) :]}")


if __name__ == "__main__":
    main()
