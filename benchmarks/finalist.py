"""How long searches take and what their winners lack: a measured part of docs/evidence.md.

Every search trains the plain network too, as a study does, sees one seed of the table, and is judged by the others.
Shared networks are those of the FusionBench part of docs/fidelity.md: trained and scored there, their CPU seconds
measured there; full trainings are those of the table, theirs too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.fidelity import BENCH, bench_task, results_of, stored
from benchmarks.markdown import markdown
from nas.bench.race import Yardstick
from nas.bench.table import Table, Values, bench_space
from nas.study.config import PrunerConfig
from nas.study.search.replay import replay

TRIALS = 24
"""Of the peer: TPE and a median pruner, what a careful user writes with Optuna alone."""
PEER_REPLAYS, REPLAYS = 60, 600
FINALISTS = (1, 3, 12)

Rows = NDArray[np.intp]
Search = Callable[[int, int], tuple[Rows, float]]
"""Of the number of a replay and the seed that it sees (its column): what it trains in full, and its CPU seconds."""


@dataclass(frozen=True)
class Searched:
    """What one way of searching costs, and what its winner lacks to the best of the table."""

    name: str
    cost_s: float
    regret: Values
    """(S,): mean over the replays that saw a seed, in accuracy."""

    @property
    def row(self) -> tuple[str, str, str, str]:
        """For a table: seconds, the mean regret in points, and that of each seed."""
        each = " ".join(f"{100 * value:.1f}" for value in self.regret)
        return self.name, f"{self.cost_s:.1f}", f"{100 * self.regret.mean():.1f}", each


@dataclass(frozen=True)
class Scored:
    """A shared network that has scored every architecture."""

    scores: Values
    """(A,), higher is better."""
    cost_s: float
    """Training and scoring."""


def part_finalist(table: Table) -> str:
    """The table of searches, and what it says."""
    networks = scored(table)
    if not networks:
        return "Not measured: `python benchmarks/fidelity.py --only fusion-bench`."
    plain = searched(table, "the plain network alone", len(table.seeds), partial(at_random, table, 0))
    peer = searched(table, f"tpe + median, {TRIALS} trials, and plain", PEER_REPLAYS, partial(by_tpe, table))
    random = [
        searched(table, f"{count} at random and plain", REPLAYS, partial(at_random, table, count))
        for count in FINALISTS
    ]
    shared = [
        searched(
            table,
            f"the {count} best of all by a shared network, and plain"
            if count > 1
            else "the best of all by a shared network, and plain",
            len(networks) * len(table.seeds),
            partial(by_shared, table, networks, count),
        )
        for count in FINALISTS
    ]
    heads = ("trained in full", "CPU seconds", "regret of the winner, points", "by the seed that it saw")
    lines = markdown(heads, [one.row for one in (plain, *random, peer, *shared)])
    return "\n".join((*lines, "", f"**Answer.** {answer(plain, peer, (*random, *shared))}"))


def searched(table: Table, name: str, replays: int, search: Search) -> Searched:
    """Replay a search, a third of the replays with each seed."""
    yardsticks = [Yardstick.of(table, column) for column in range(len(table.seeds))]
    lacks: list[list[float]] = [[] for _ in table.seeds]
    costs = []
    for number in range(replays):
        column = number % len(table.seeds)
        rows, cost = search(number, column)
        rows = np.union1d(rows, [0])  # the plain network is the first of the table
        winner = rows[table.accuracy[rows, column, -1].argmax()]
        lacks[column].append(yardsticks[column].regret(winner))
        costs.append(cost + float(table.cost_s[0, column]))
    return Searched(name, float(np.mean(costs)), np.array([np.mean(one) for one in lacks]))


def at_random(table: Table, count: int, number: int, column: int) -> tuple[Rows, float]:
    """The control: no search."""
    rows = 1 + np.random.default_rng(number).permutation(len(table.rows) - 1)[:count]
    return rows, float(table.cost_s[rows, column].sum())


def by_tpe(table: Table, number: int, column: int) -> tuple[Rows, float]:
    """What the peer trains to the end; what it stopped early costs too."""
    curves = dict(zip(table.architectures, table.accuracy[:, column].tolist(), strict=True))
    pruner = PrunerConfig.parse({"name": "median"}, "pruner")
    longest = TRIALS * table.num_epochs
    trials = replay(bench_space(), curves, sampler="tpe", pruner=pruner, num_epochs=longest, seed=number)[:TRIALS]
    rows = [table.rows[trial.architecture.digest] for trial in trials]
    epoch_s = table.cost_s[:, column] / table.num_epochs
    cost = sum(float(epoch_s[row]) * trial.num_epochs for row, trial in zip(rows, trials, strict=True))
    done = [row for row, trial in zip(rows, trials, strict=True) if trial.score is not None]
    return np.array(done, dtype=np.intp), cost


def by_shared(table: Table, networks: Sequence[Scored], count: int, number: int, column: int) -> tuple[Rows, float]:
    """The best by one shared network that has scored all architectures."""
    network = networks[number // len(table.seeds)]
    rows = np.argsort(-network.scores, kind="stable")[:count]
    return rows, network.cost_s + float(table.cost_s[rows, column].sum())


def scored(table: Table) -> list[Scored]:
    """The shared networks of the length that a calibration on this table chooses; empty where there are none."""
    task = bench_task(table)
    results, found = results_of(BENCH, task), stored(BENCH)
    if results is None or found is None or found.settings["by"] != "shared":
        return []
    settings = found.settings
    sign, place = (1, 0) if settings["measure"] == "accuracy" else (-1, 1)
    networks = [results[run.key] for run in task.runs if run.kind == "shared" and run.epochs == settings["epochs"]]
    return [
        Scored(
            scores=np.array([sign * network["scores"][digest][place] for digest in table.rows]),
            cost_s=network["train_s"] + network["score_s"],
        )
        for network in networks
    ]


def answer(plain: Searched, peer: Searched, others: Sequence[Searched]) -> str:
    """Whether a search found more than the plain network, and what it took beside the peer."""
    better = [one.name for one in (peer, *others) if (one.regret < plain.regret).all()]
    cheapest = min((one for one in others if "shared" in one.name), key=lambda one: one.cost_s)
    found = f"With every seed better than plain alone: {', '.join(better) or 'nothing'}."
    return (
        f"{found} All architectures scored by a shared network and one of them trained take {cheapest.cost_s:.0f} s, "
        f"{TRIALS} trials of tpe + median {peer.cost_s:.0f} s: {peer.cost_s / cheapest.cost_s:.1f} times as long."
    )
