"""Several objectives with and without rungs, where every network is known: the table of docs/objectives.md.

    python benchmarks/objectives.py               # every method with every seed that is missing, then the page
    python benchmarks/objectives.py --seeds 2     # fewer
    python benchmarks/objectives.py --crowded     # how long a trial's own work takes after 1,000 others
    python benchmarks/objectives.py --report      # the page from what is stored

The space is FusionBench: each trial looks its epochs up in the table instead of training. Everything else is the
product: workers, database, sampler, rungs, promotions. Accuracy counts up and MACs count down. Seed k of a search
takes the trainings of seed k modulo 3. Beside it stand Optuna's own samplers as a short script uses them: without
stopping, and without knowing that a network was trained before.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean, median

import numpy as np
import optuna

from nas.architecture import Architecture
from nas.bench.table import Table, bench_space, load_table
from nas.documents import write_atomically
from nas.fusion.cost import CostComparison
from nas.measurement import Cost, EpochRecord, Measurement, Outcome
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.pareto import Losses
from nas.study.run.stop import StopFlag
from nas.study.run.training import OnEpoch
from nas.study.run.worker import Worker
from nas.study.search.sampler import suggest
from nas.study.store.reader import Study
from nas.training.summary import DataSummary

ROOT = Path(__file__).resolve().parents[1]
RAW = ROOT / "benchmarks" / "results" / "objectives.json"
CROWDED = ROOT / "benchmarks" / "results" / "crowded.json"
PAGE = ROOT / "docs" / "objectives.md"
BEGIN, END = "<!-- measured: written by benchmarks/objectives.py -->", "<!-- end of measured -->"

GOALS = {"val_accuracy": "maximize", "macs": "minimize"}
BUDGETS = (100, 250)
"""Trials of a search."""
PATIENCE = 20
"""Proposals outside the table after which a peer is given a random network of it."""
EPOCHS = 9
CROWD, AFTER = 1000, 50
SUMMARY = DataSummary(
    source="noisy-digits",
    class_names=tuple("0123456789"),
    class_counts=(50,) * 10,
    in_chans=1,
    image_size=8,
    num_train=500,
    num_val=719,
    num_test=100,
    fingerprint="0" * 64,
)
"""Of data that nobody opens here."""
BLANK = EpochRecord(
    epoch=0, train_loss=1.0, val_loss=1.0, val_accuracy=0.0, learning_rate=0.0, grad_norm=0.0, train_s=1.0, val_s=0.0
)
OURS = {
    "tpe with rungs": ("tpe", "asha"),
    "tpe without stopping": ("tpe", "none"),
    "nsga2 with rungs": ("nsga2", "asha"),
    "evolution with rungs": ("evolution", "asha"),
    "random with rungs": ("random", "asha"),
}
PEERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "Optuna's TPE without stopping": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "Optuna's NSGA-II without stopping": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
}


@dataclass(frozen=True)
class Search:
    """What one search found, and for how many epochs."""

    trials: int
    method: str
    seed: int
    hypervolume: float
    """Share of the true front's."""
    epochs: int
    trained: int
    """Networks on which at least one epoch was spent."""
    twice: int | None
    """Trials of a network that another trial had trained; None where it was not counted."""
    overhead_ms: float | None
    """Mean time of a trial without its training; None of Optuna in memory."""


class Known:
    """The table as a worker's measure; a checkpoint is the number of epochs that were run."""

    device = "cpu"

    def __init__(self, table: Table, seed: int) -> None:
        self.table, self.column = table, seed % len(table.seeds)
        self.done: dict[str, int] = {}

    def values(self, digest: str) -> tuple[float, float]:
        """Accuracy after the last epoch, and MACs."""
        row = self.table.rows[digest]
        return float(self.table.accuracy[row, self.column, -1]), float(self.table.macs[row])

    def cost(self, architecture: Architecture) -> CostComparison:
        """Counted."""
        row = self.table.rows[architecture.digest]
        fused = Cost(num_params=int(self.table.num_params[row]), macs=int(self.table.macs[row]))
        return CostComparison(fused=fused, plain=fused, input_size=(1, 8, 8), batch=1, device=self.device, threads=1)

    def epoch(self, row: int, epoch: int) -> EpochRecord:
        """What the table has of one epoch."""
        accuracy = float(self.table.accuracy[row, self.column, epoch])
        return replace(BLANK, epoch=epoch, val_accuracy=accuracy)

    def __call__(
        self, architecture: Architecture, *, on_epoch: OnEpoch, should_stop: Callable[[], bool], checkpoint: Path
    ) -> Measurement:
        """Look the epochs up."""
        digest = architecture.digest
        row, done = self.table.rows[digest], self.done.get(digest, 0)
        reason = on_epoch(self.epoch(row, done - 1)) if done else None
        while reason is None and done < self.table.num_epochs:
            reason = on_epoch(self.epoch(row, done))
            done += 1
        self.done[digest] = done
        return Measurement(
            outcome=Outcome.STOPPED if reason else Outcome.COMPLETE,
            reason=reason,
            score=float(self.table.accuracy[row, self.column, done - 1]),
            seed=0,
            budget=self.table.num_epochs,
            num_params=int(self.table.num_params[row]),
            macs=int(self.table.macs[row]),
            wall_s=0.0,
            epochs=tuple(self.epoch(row, e) for e in range(done)),
        )


def study_of(method: str, table: Table, space: SearchSpace, seed: int, *, trials: int, folder: Path) -> Study:
    """A stored study of FusionBench's space."""
    sampler, pruner = OURS[method]
    file = folder / "space.json"
    file.write_text(json.dumps(space.to_dict()))
    content = {
        "name": "known",
        "space": str(file),
        "objectives": GOALS,
        "sampler": sampler,
        "pruner": {"name": pruner},
        "training": {"epochs": table.num_epochs},
        "landmarks": ["plain"],
        "trials": trials,
        "seed": seed,
    }
    config = StudyConfig.parse(content, "benchmark")
    return create_study(config, "", f"sqlite:///{folder / 'nas.db'}", lambda _: SUMMARY)


class Restricted(Worker):
    """Draws only networks that the table knows, where it is not complete."""

    def _claim(self, trial_id: int, architecture: Architecture) -> bool:
        known = self.measure.table.rows  # type: ignore[attr-defined]  # `Known`, which `ours` gives it
        return architecture.digest in known and super()._claim(trial_id, architecture)


def ours(table: Table, space: SearchSpace, method: str, seed: int, trials: int) -> Search:
    """A study as a user would start it, with one worker."""
    measure = Known(table, seed)
    with tempfile.TemporaryDirectory() as name:
        study = study_of(method, table, space, seed, trials=trials, folder=Path(name))
        started = time.perf_counter()
        Restricted(study, measure, stop=StopFlag()).run()
        elapsed = time.perf_counter() - started
        trained = [t for t in study.trials() if t.epochs and t.digest]
        found = [measure.values(t.digest) for t in trained if t.state == "complete" and t.digest]
    return Search(
        trials=trials,
        method=method,
        seed=seed,
        hypervolume=share(table, measure, found),
        epochs=sum(measure.done.values()),
        trained=len(measure.done),
        twice=len(trained) - len({t.digest for t in trained}),
        overhead_ms=elapsed / trials * 1e3,
    )


def peer(table: Table, space: SearchSpace, method: str, seed: int, trials: int) -> Search:
    """Optuna alone: every trial is trained to its end."""
    measure = Known(table, seed)
    study = optuna.create_study(directions=list(GOALS.values()), sampler=PEERS[method](seed))
    random, trained, outside = np.random.default_rng(seed), list[str](), 0
    while len(trained) < trials:
        if outside == PATIENCE:
            known = table.architectures[int(random.integers(len(table.architectures)))]
            study.enqueue_trial(dict(space.encode(known) or {}))
        trial = study.ask()
        digest = suggest(trial, space).digest
        outside = 0 if digest in table.rows else outside + 1
        if outside:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        trained.append(digest)
        study.tell(trial, measure.values(digest))
    return Search(
        trials=trials,
        method=method,
        seed=seed,
        hypervolume=share(table, measure, [measure.values(digest) for digest in trained]),
        epochs=trials * table.num_epochs,
        trained=len(set(trained)),
        twice=len(trained) - len(set(trained)),
        overhead_ms=None,
    )


class Planted(Known):
    """Any network of a large space: what it is worth follows from its digest."""

    def __init__(self) -> None:
        self.done = {}

    def cost(self, architecture: Architecture) -> CostComparison:
        """Made up."""
        cost = Cost(num_params=1, macs=int(architecture.digest[:8], 16))
        return CostComparison(fused=cost, plain=cost, input_size=(1, 8, 8), batch=1, device=self.device, threads=1)

    def __call__(
        self, architecture: Architecture, *, on_epoch: OnEpoch, should_stop: Callable[[], bool], checkpoint: Path
    ) -> Measurement:
        """Nine epochs, or fewer."""
        digest, top = architecture.digest, int(architecture.digest[8:], 16) / 16**8
        done = self.done.get(digest, 0)
        epochs = [replace(BLANK, epoch=e, val_accuracy=top * (e + 1) / EPOCHS) for e in range(EPOCHS)]
        reason = on_epoch(epochs[done - 1]) if done else None
        while reason is None and done < EPOCHS:
            reason = on_epoch(epochs[done])
            done += 1
        self.done[digest] = done
        outcome = Outcome.STOPPED if reason else Outcome.COMPLETE
        spent = {"seed": 0, "budget": EPOCHS, "num_params": 1, "macs": 1, "wall_s": 0.0}
        score = epochs[done - 1].val_accuracy
        return Measurement(outcome=outcome, reason=reason, score=score, epochs=tuple(epochs[:done]), **spent)


def crowded(sampler: str) -> dict[str, float]:
    """Milliseconds of a trial without its training, on SQLite with `CROWD` finished trials: the median of the next."""
    content = {
        "name": "crowded",
        "space": "full",
        "objectives": GOALS,
        "sampler": sampler,
        "training": {"epochs": EPOCHS},
        "trials": 2 * CROWD,
    }
    times: list[float] = []

    class Timed(Worker):
        def _work_on(self, trial: optuna.Trial) -> bool:
            done = super()._work_on(trial)
            times.append(time.perf_counter())
            return done

    with tempfile.TemporaryDirectory() as name:
        config = StudyConfig.parse(content, "benchmark")
        study = create_study(config, "", f"sqlite:///{Path(name) / 'nas.db'}", lambda _: SUMMARY)
        Timed(study, Planted(), stop=StopFlag()).run(CROWD + AFTER)
    return {"sampler": sampler, "ms": median(np.diff(times[-AFTER:])) * 1e3}


def hypervolume(losses: Losses, reference: Losses) -> float:
    """What a set dominates of the box below ``reference`` (M,); exact, by slicing along the last objective.

    E. Zitzler and L. Thiele, 1999. Meant for a few hundred candidates and two or three objectives.
    """
    inside = losses[(losses < reference).all(1)]
    if inside.shape[1] == 1 or not len(inside):
        return float(reference[0] - inside[:, 0].min()) if len(inside) else 0.0
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    edges = np.append(inside[:, -1], reference[-1])
    slices = (hypervolume(inside[: i + 1, :-1], reference[:-1]) for i in range(len(inside)))
    return float(sum(area * height for area, height in zip(slices, np.diff(edges), strict=True)))


def share(table: Table, measure: Known, found: list[tuple[float, float]]) -> float:
    """The hypervolume of what was found over that of all networks, both measured from the worst of each objective."""
    every = np.array([measure.values(digest) for digest in table.rows]) * [-1, 1]
    low, high = every.min(0), every.max(0)

    def volume(values: np.ndarray) -> float:
        return hypervolume((values - low) / (high - low), np.array([1.0, 1.0]))

    return volume(np.array(found) * [-1, 1]) / volume(every)


def table_text(table: Table, searches: list[Search]) -> str:
    """The page's table: mean and range over seeds."""
    seeds = sorted({search.seed for search in searches})
    lines = [
        f"The space are the {len(table.rows)} networks that FusionBench holds with every seed; a proposal outside is "
        f"drawn again. {len(seeds)} seeds. Hypervolume is that of what was trained to the end, as a share of the true "
        "front's: mean (least to most).",
        "",
        "| trials | method | hypervolume | epochs, of all without stopping | networks trained | trained again "
        "| ms a trial |",
        "|---|---|---|---|---|---|---|",
    ]
    for trials, method in product(BUDGETS, (*OURS, *PEERS)):
        those = [search for search in searches if (search.trials, search.method) == (trials, method)]
        if not those:
            continue
        volumes = [search.hypervolume for search in those]
        spent = mean(search.epochs for search in those) / (trials * table.num_epochs)
        repeats = [search.twice for search in those if search.twice is not None]
        times = [search.overhead_ms for search in those if search.overhead_ms is not None]
        lines.append(
            f"| {trials} | {method} | {mean(volumes):.3f} ({min(volumes):.3f} to {max(volumes):.3f}) | {spent:.0%} "
            f"| {mean(search.trained for search in those):.0f} | {f'{mean(repeats):.0f}' if repeats else '–'} "
            f"| {f'{median(times):.0f}' if times else '–'} |"
        )
    return "\n".join(lines)


def crowded_text() -> str:
    """What `crowded` has stored, in a sentence."""
    if not CROWDED.exists():
        return ""
    parts = [f"{entry['ms']:.0f} ms with `{entry['sampler']}`" for entry in json.loads(CROWDED.read_text())]
    return (
        f"\n\nAfter {CROWD:,} finished trials in the space `full` a trial takes {' and '.join(parts)} beside its "
        f"training: drawing, storing up to {EPOCHS} epochs, rungs, telling (median of {AFTER}, SQLite, one worker)."
    )


def write_page(text: str) -> None:
    """Put the measured part in its place."""
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="searches of each method")
    parser.add_argument("--crowded", action="store_true", help="time trials after many others")
    parser.add_argument("--report", action="store_true", help="only write the page")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if arguments.crowded:
        write_atomically(CROWDED, json.dumps([crowded(name) for name in ("tpe", "nsga2")], indent=1).encode())
    table = load_table().complete()
    space = bench_space()
    recipe = {"networks": sorted(table.rows), "goals": GOALS}
    stored = json.loads(RAW.read_text()) if RAW.exists() else {}
    if stored and stored["recipe"] != recipe:
        print("what is stored was searched on another table; it is searched again", file=sys.stderr)
        stored = {}
    searches = [Search(**row) for row in stored.get("searches", ())]
    done = {(search.trials, search.method, search.seed) for search in searches}
    for seed in () if arguments.report or arguments.crowded else range(arguments.seeds):
        for trials, method in product(BUDGETS, (*PEERS, *OURS)):
            if (trials, method, seed) not in done:
                searches.append((peer if method in PEERS else ours)(table, space, method, seed, trials))
                print(searches[-1], file=sys.stderr, flush=True)
                content = {"recipe": recipe, "searches": [asdict(search) for search in searches]}
                write_atomically(RAW, json.dumps(content, indent=1).encode())
    text = table_text(table, searches) + crowded_text()
    print(text)
    write_page(text)


if __name__ == "__main__":
    main()
