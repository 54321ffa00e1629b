"""How long a search takes until it holds a finalist as good as another search's: a measured part of docs/evidence.md.

Shared networks are those of the FusionBench part of docs/fidelity.md, full trainings those of the table. A replay draws
candidates, scores them on one shared network, trains the best of them and the plain one in full with one seed, and is
judged by the other seeds. Seconds are CPU seconds of one thread, all of them measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.fidelity import BENCH, bench_task, results_of
from benchmarks.markdown import markdown
from nas.bench.race import Race, Setting, Yardstick
from nas.bench.table import Table, Values
from nas.estimate.calibrate import CalibrationTask, conclude
from nas.estimate.store import Result

PEER = Setting(sampler="tpe", pruner="median")
"""What a careful user writes with Optuna alone."""
PEER_BUDGETS = (5, 10, 15)
"""Places of the race's budgets that are shown."""
REPLAYS = 600
WAYS = ((50, 1), (50, 3), (200, 1), (200, 3), (625, 1), (625, 3), (625, 12))
"""Candidates that are scored, and finalists that are trained beside the plain network."""


@dataclass(frozen=True)
class Searched:
    """What one way of searching costs, and what its winner lacks to the best of the table."""

    name: str
    cost_s: float
    regret: Values
    """(R,): of each replay, in accuracy."""

    @property
    def mean(self) -> float:
        """Over the replays."""
        return float(self.regret.mean())

    @property
    def row(self) -> tuple[str, str, str]:
        """For a table; the interval is that of the mean over the replays."""
        half = 1.96 * self.regret.std(ddof=1) / np.sqrt(len(self.regret))
        return self.name, f"{self.cost_s:.1f}", f"{100 * self.mean:.2f} ± {100 * half:.2f}"


@dataclass(frozen=True)
class Scored:
    """A shared network and what it says of every architecture."""

    scores: Values
    """(A,), higher is better."""
    train_s: float
    each_s: float
    """To score one candidate."""


def part_finalist(table: Table, race: Race | None) -> str:
    """The table of searches, and how much faster than the peer the cheapest is that finds as much."""
    task = bench_task(table)
    results = results_of(BENCH, task)
    if results is None or race is None:
        return "Not measured: `python benchmarks/fidelity.py --only fusion-bench`, then the race."
    settings = conclude(task, results).settings
    if settings["by"] != "shared":
        return "On this table no shared network can be trusted."
    peers = list(raced(table, race))
    networks = scored(table, task, results, settings)
    ours = [only_plain(table), *(replayed(table, networks, *way) for way in WAYS)]
    heads = ("search", "CPU seconds", "regret of its winner, points")
    lines = markdown(heads, [searched.row for searched in (*peers, *ours)])
    return "\n".join((*lines, "", f"**Answer.** {answer(peers[-1], ours)}"))


def raced(table: Table, race: Race) -> list[Searched]:
    """The peer after some of its budgets."""
    (runner,) = (runner for runner in race.runners if runner.setting == PEER)
    epoch_s = float(np.nansum(table.cost_s)) / table.made.sum() / table.num_epochs
    return [
        Searched(f"{PEER}, {race.epochs[at]} epochs", race.epochs[at] * epoch_s, runner.regret[:, at])
        for at in PEER_BUDGETS
    ]


def only_plain(table: Table) -> Searched:
    """No search at all: the plain network, the first row of the table."""
    regret = [Yardstick.of(table, column).regret(0) for column in range(len(table.seeds))]
    return Searched("the plain network alone", float(table.cost_s[0].mean()), np.array(regret))


def scored(
    table: Table, task: CalibrationTask, results: Mapping[str, Result], settings: Mapping[str, Any]
) -> list[Scored]:
    """The shared networks that a calibration on this table chooses."""
    sign, place = (1, 0) if settings["measure"] == "accuracy" else (-1, 1)
    networks = [results[run.key] for run in task.runs if run.kind == "shared" and run.epochs == settings["epochs"]]
    return [
        Scored(
            scores=np.array([sign * network["scores"][digest][place] for digest in table.rows]),
            train_s=network["train_s"],
            each_s=network["score_s"] / len(table.rows),
        )
        for network in networks
    ]


def replayed(table: Table, networks: Sequence[Scored], candidates: int, finalists: int) -> Searched:
    """Candidates scored on one shared network, and the best of them trained beside the plain one."""
    yardsticks = [Yardstick.of(table, column) for column in range(len(table.seeds))]
    regrets, costs = [], []
    for replay in range(REPLAYS):
        column = replay % len(table.seeds)
        network = networks[replay // len(table.seeds) % len(networks)]
        drawn = np.random.default_rng(replay).permutation(len(table.rows))[:candidates]
        best = drawn[np.argsort(-network.scores[drawn], kind="stable")[:finalists]]
        trained = np.union1d(best, [0])
        winner = trained[table.accuracy[trained, column, -1].argmax()]
        regrets.append(yardsticks[column].regret(winner))
        costs.append(network.train_s + network.each_s * candidates + float(table.cost_s[trained, column].sum()))
    more = f"{finalists} finalist{'s' if finalists > 1 else ''}"
    return Searched(f"{candidates} candidates, {more} and plain", float(np.mean(costs)), np.array(regrets))


def answer(peer: Searched, others: Sequence[Searched]) -> str:
    """The cheapest that finds as much as the peer, in sentences."""
    as_good = [searched for searched in others if searched.mean <= peer.mean]
    begin = f"The winner of {peer.name} lacks {100 * peer.mean:.2f} points, after {peer.cost_s:.0f} s. "
    if not as_good:
        return begin + "None of these finds as much."
    told = [
        f"{searched.name}: {searched.cost_s:.1f} s, {peer.cost_s / searched.cost_s:.1f} times less"
        for searched in sorted(as_good, key=lambda searched: searched.cost_s)[:2]
    ]
    return begin + f"As good or better are, cheapest first: {'; '.join(told)}."
