"""Which sampler, with which way of stopping, finds a good architecture for the fewest epochs: replays on the table.

Legend: R replays, B budgets. Replay r trains everything with one seed of the table, as a study does, and sees its
curves only. It is judged by the other seeds, so that luck with the seed that it saw is no merit.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture
from nas.bench.table import Table, Values, bench_space
from nas.comparison import Difference, differences
from nas.errors import UserError
from nas.estimate.ranking import Calibration, Estimate, judge
from nas.study.config import PrunerConfig, SamplerName
from nas.study.search.replay import ReplayedTrial, replay

SAMPLERS = ("random", "grid", "tpe", "nsga2", "evolution")
PRUNERS = ("none", "median", "asha")
REPLAYS = 20
FULL_TRAININGS = 30
"""Budget of a replay, in full trainings."""
CHUNK = 5
"""Replays of one setting that a worker takes at a time."""
MIN_ARCHITECTURES = 8


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A sampler and what stops its trials."""

    sampler: str
    """As a study file names it."""
    pruner: str

    def __str__(self) -> str:
        return self.sampler if self.pruner == "none" else f"{self.sampler} + {self.pruner}"


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What one setting reached."""

    setting: Setting
    regret: Values
    """(R, B): what the best network found so far lacks to the best of the table, in accuracy: 0.01 is a point."""
    num_trials: float
    """Mean over the replays, within the largest budget."""

    @property
    def mean(self) -> Values:
        """(B,)."""
        return np.asarray(self.regret.mean(0))

    def band(self, low: float = 0.1, high: float = 0.9) -> tuple[Values, Values]:
        """Quantiles over the replays, (B,) each."""
        return np.quantile(self.regret, low, axis=0), np.quantile(self.regret, high, axis=0)


@dataclass(frozen=True, kw_only=True)
class Race:
    """Settings on one table, side by side."""

    num_architectures: int
    epochs: NDArray[np.int64]
    """(B,): epochs spent, those of stopped trials included."""
    epochs_per_training: int
    replays: int
    blind: float
    """Regret of an architecture at random."""
    exhaustive: float
    """Regret of the winner where every architecture is trained once in full."""
    runners: tuple[Runner, ...]

    def against(self, reference: Setting, budget: int) -> tuple[tuple[Setting, Difference], ...]:
        """Regret of every other setting less that of ``reference`` after the ``budget``-th budget (from 0).

        Below 0: less regret. Paired by replay; corrected for the number of settings.
        """
        settings = [runner.setting for runner in self.runners]
        scores = np.stack([runner.regret[:, budget] for runner in self.runners])
        at = settings.index(reference)
        others = [i for i in range(len(settings)) if i != at]
        found = differences(scores, at, others) if others else ()
        return tuple((settings[i], difference) for i, difference in zip(others, found, strict=True))


def race(
    table: Table,
    *,
    samplers: Sequence[str] = SAMPLERS,
    pruners: Sequence[str] = PRUNERS,
    replays: int = REPLAYS,
    first: int = 0,
    full_trainings: int = FULL_TRAININGS,
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Race:
    """Replay every sampler with every way of stopping on the architectures that every seed has trained.

    Args:
        first: number of the first replay, which its seeds follow from.
        full_trainings: budget of each replay; an epoch costs the same, wherever it is spent.
        on_progress: told how many replays are done, of how many.

    Raises:
        UserError: an unknown name, or the table holds too few architectures.
    """
    for kind, given, known in (("sampler", samplers, get_args(SamplerName)), ("pruner", pruners, PRUNERS)):
        for name in given:
            if name not in known:
                raise UserError(f"nas bench: unknown {kind} {name!r}; expected one of {', '.join(known)}")
    if replays < 2:  # noqa: PLR2004
        raise UserError(f"nas bench: replays: expected at least 2, got {replays}")
    table = whole(table)
    settings = [Setting(sampler=sampler, pruner=pruner) for pruner in pruners for sampler in samplers]
    tasks = [
        _Task(
            table=table,
            setting=setting,
            replays=range(start, min(start + CHUNK, first + replays)),
            trainings=full_trainings,
        )
        for setting in settings
        for start in range(first, first + replays, CHUNK)
    ]
    regrets: dict[Setting, list[Values]] = {setting: [] for setting in settings}
    trials: dict[Setting, list[int]] = {setting: [] for setting in settings}
    done = 0
    for task, (found, counts) in zip(tasks, _results(tasks, workers), strict=True):
        regrets[task.setting].append(found)
        trials[task.setting] += counts
        done += len(task.replays)
        if on_progress is not None:
            on_progress(done, len(settings) * replays)
    columns = range(len(table.seeds))
    quality = [Yardstick.of(table, column) for column in columns]
    return Race(
        num_architectures=len(table.architectures),
        epochs=_budgets(table, full_trainings),
        epochs_per_training=table.num_epochs,
        replays=replays,
        blind=float(np.mean([q.blind for q in quality])),
        exhaustive=float(
            np.mean([q.regret(table.accuracy[:, c, -1].argmax()) for c, q in zip(columns, quality, strict=True)])
        ),
        runners=tuple(
            Runner(setting=setting, regret=np.concatenate(regrets[setting]), num_trials=float(np.mean(trials[setting])))
            for setting in settings
        ),
    )


def whole(table: Table) -> Table:
    """The part of a table that every seed has trained; a `UserError` where it is too small to say anything."""
    table = table.complete()
    if len(table.architectures) < MIN_ARCHITECTURES:
        raise UserError(
            f"FusionBench: expected at least {MIN_ARCHITECTURES} architectures with every seed, got "
            f"{len(table.architectures)}; benchmarks/fusion_bench.py makes more"
        )
    return table


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """How good architectures are, told by the seeds that a replay does not see."""

    quality: Values
    """(A,)."""

    @classmethod
    def of(cls, table: Table, column: int) -> "Yardstick":
        return cls(quality=np.delete(table.accuracy[:, :, -1], column, axis=1).mean(1))

    @property
    def blind(self) -> float:
        return float(self.quality.max() - self.quality.mean())

    def regret(self, row: int | np.intp) -> float:
        return float(self.quality.max() - self.quality[row])


def _budgets(table: Table, full_trainings: int) -> NDArray[np.int64]:
    return np.arange(1, full_trainings + 1) * table.num_epochs


@dataclass(frozen=True, kw_only=True)
class _Task:
    """Some replays of one setting; it crosses to a worker process."""

    table: Table
    setting: Setting
    replays: range
    trainings: int

    def do(self) -> tuple[Values, list[int]]:
        """Regrets (replays, B) and the numbers of trials."""
        table, budgets = self.table, _budgets(self.table, self.trainings)
        regrets, counts = [], []
        for number in self.replays:
            column = number % len(table.seeds)
            seen = table.accuracy[:, column]
            trials = replay(
                bench_space(),
                {architecture: seen[row].tolist() for row, architecture in enumerate(table.architectures)},
                sampler=self.setting.sampler,
                pruner=PrunerConfig.parse({"name": self.setting.pruner}, "pruner"),
                num_epochs=int(budgets[-1]),
                seed=number,
            )
            rows = {architecture: row for row, architecture in enumerate(table.architectures)}
            regrets.append(regret_curve(trials, rows, Yardstick.of(table, column), budgets))
            counts.append(len(trials))
        return np.array(regrets), counts


def regret_curve(
    trials: Sequence[ReplayedTrial], rows: dict[Architecture, int], yardstick: Yardstick, budgets: NDArray[np.int64]
) -> Values:
    """Regret (B,) of the trial with the best score among those that have ended within each budget.

    Before one has: that of an architecture at random.
    """
    found = np.full(len(budgets), yardstick.blind)
    spent, best = 0, -np.inf
    for trial in trials:
        spent += trial.num_epochs
        if trial.score is not None and trial.score > best:
            best = trial.score
            found[budgets >= spent] = yardstick.regret(rows[trial.architecture])
    return found


def _results(tasks: Sequence[_Task], workers: int) -> Iterator[tuple[Values, list[int]]]:
    """The results in the order of the tasks."""
    if workers == 1:
        yield from (task.do() for task in tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_Task.do, tasks)


def stopped_early(table: Table) -> Calibration:
    """How the score after k epochs ranks architectures as full training does, for every k."""
    table = whole(table)
    full_s = float(np.nansum(table.cost_s) / len(table.seeds))
    return judge(
        table.accuracy[:, :, -1],
        full_s,
        [
            Estimate(
                name=f"after {k} epoch{'s' if k > 1 else ''}",
                scores=table.accuracy[:, :, k - 1],
                cost_s=full_s * k / table.num_epochs,
                of_truth=True,
            )
            for k in range(1, table.num_epochs)
        ],
    )
