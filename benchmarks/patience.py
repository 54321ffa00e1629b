"""How long a trial should be left alone.

    python -m benchmarks.patience           # its part of docs/evidence.md, from what is stored; some minutes

The median pruner with one warm-up after the other, on trainings that are known: those of FusionBench, and the full ones
of the parts of docs/fidelity.md whose architectures differ. Every replay draws at random until the same number of
epochs is spent, sees one seed, and is judged by the others.
"""

import math
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState

from benchmarks.evidence import PAGE
from benchmarks.fidelity import PARTS, part_task, results_of, title
from benchmarks.markdown import fill, markdown
from nas.documents import write_atomically
from nas.estimate.calibration.judge import conclude
from nas.estimate.calibration.runs import Result
from nas.estimate.calibration.task import CalibrationTask
from nas.study.config import PrunerConfig
from nas.study.search.pruners import make_pruner
from nas.study.search.replay import play

SHARES = (0.0, 1 / 6, 1 / 3, 1 / 2, 2 / 3)
"""Of a full training, in which nobody is stopped; at least one epoch."""
TRAININGS = 12
"""Full ones whose epochs a replay may spend."""
REPLAYS = 300


@dataclass(frozen=True)
class Waited:
    """Replays with one warm-up."""

    regret: NDArray[np.float64]
    """(replays,), in points."""
    num_trials: float

    def __str__(self) -> str:
        half = 1.96 * self.regret.std(ddof=1) / math.sqrt(len(self.regret))
        return f"{self.regret.mean():.2f} ± {half:.2f} ({self.num_trials:.0f})"


def part_patience() -> str:
    """A row a task, a column a warm-up; asha, which looks first after one epoch, last."""
    found = {title(part): waited(*known) for part in PARTS if (known := differing(part)) is not None}
    heads = ("at once", *(f"{share:.0%}" for share in SHARES[1:]), "never", "asha")
    lines = markdown(("task", *heads), [(name, *map(str, row)) for name, row in found.items()])
    best = [f"{name}: {heads[np.argmin([one.regret.mean() for one in row])]}" for name, row in found.items()]
    return "\n".join((*lines, "", f"**Answer.** Least regret on {'; on '.join(best)}."))


def differing(part: str) -> tuple[CalibrationTask, dict[str, Result]] | None:
    """What is known of a part; None where it is not measured, or its architectures do not differ above seed noise."""
    task = part_task(part)
    results = results_of(part, task)
    if results is None or not conclude(task, results).spread.differ:
        return None
    return task, results


def waited(task: CalibrationTask, results: dict[str, Result]) -> list[Waited]:
    """The replays of one task."""
    seeds = sorted({run.seed for run in task.truth})
    curve = {(run.digest, run.seed): results[run.key]["accuracy"] for run in task.truth}
    length = task.training.epochs
    curves = np.array([[curve[a.digest, seed] for seed in seeds] for a in task.architectures])
    warmups = [max(1, math.ceil(share * length)) for share in SHARES]
    medians = (PrunerConfig(name="median", warmup_epochs=epochs) for epochs in warmups)
    pruners = (*medians, PrunerConfig(name="none"), PrunerConfig(name="asha"))
    found = []
    for pruner in pruners:
        regret, trials = [], []
        for number in range(REPLAYS):
            column = number % len(seeds)
            winner, done = searched(curves[:, column], pruner, TRAININGS * length, number)
            truth = np.delete(curves[:, :, -1], column, axis=1).mean(1)
            regret.append(100 * (truth.max() - truth[winner]))
            trials.append(done)
        found.append(Waited(np.array(regret), float(np.mean(trials))))
    return found


def searched(curves: NDArray[np.float64], pruner: PrunerConfig, num_epochs: int, seed: int) -> tuple[int, int]:
    """The row of the best of what was not stopped, and how many trials there were; ``curves`` is (A, E)."""
    study = optuna.create_study(direction="maximize", pruner=make_pruner(pruner, curves.shape[1]))
    spent, scores = 0, dict[int, float]()
    order = iter(np.random.default_rng(seed).permutation(len(curves)))
    while spent < num_epochs and (row := next(order, None)) is not None:
        trial = study.ask()
        epochs, score = play(trial, curves[row].tolist())
        study.tell(trial, score, state=TrialState.PRUNED if score is None else None)
        spent += epochs
        if score is not None:
            scores[int(row)] = score
    return max(scores, key=lambda row: scores[row]), len(study.get_trials(deepcopy=False))


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    write_atomically(PAGE, fill(PAGE.read_text(encoding="utf-8"), {"patience": part_patience()}))
