"""What the results of a calibration say."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nas.estimate.calibration.runs import Result, Run
from nas.estimate.calibration.task import CalibrationTask
from nas.estimate.predictor import Predictor, Values, held_out
from nas.estimate.ranking import Calibration, Estimate, judge


def conclude(task: CalibrationTask, results: Mapping[str, Result]) -> Calibration:
    """Judge every estimator and budget that ``results`` hold for all architectures, and the predictor of the rest."""
    truth = truth_of(task, results)
    found = judge(truth, full_cost(task, results), [*estimates(task, results), predicted(task, truth)])
    return replace(found, predictor=Predictor.fit(task.architectures, truth))


def predicted(task: CalibrationTask, truth: Values) -> Estimate:
    """What a predictor says that has seen ``truth`` (A, S) of other architectures: nothing more is trained for it."""
    return Estimate(
        name=f"predictor, {truth.size} trainings",
        scores=held_out(task.architectures, truth)[:, None],
        cost_s=0.0,
        settings={"by": "predictor", "epochs": None},
    )


def truth_of(task: CalibrationTask, results: Mapping[str, Result]) -> Values:
    """Final validation accuracies (A, S) of the full trainings."""
    return _accuracies(task, results, task.truth, -1).reshape(-1, len(task.architectures)).T


def full_cost(task: CalibrationTask, results: Mapping[str, Result]) -> float:
    """Seconds to train every architecture in full once."""
    return sum(float(results[run.key]["cost_s"]) for run in task.truth) / task.config.seeds


def _accuracies(task: CalibrationTask, results: Mapping[str, Result], runs: Sequence[Run], epoch: int) -> Values:
    """Accuracy of each run after an epoch (-1: the last); one that broke has what it had reached, or chance."""
    chance = 1 / task.space.num_classes

    def reached(curve: Sequence[float]) -> float:
        return curve[epoch if -1 <= epoch < len(curve) else -1] if curve else chance

    return np.array([reached(results[run.key]["accuracy"]) for run in runs])


def estimates(task: CalibrationTask, results: Mapping[str, Result]) -> Iterator[Estimate]:
    """Every estimator and budget whose results are complete."""
    yield from _stopped(task, results)
    groups: dict[str, list[Run]] = {}
    for run in task.runs:
        groups.setdefault(run.label, []).append(run)
    for label, runs in groups.items():
        if runs[0].kind == "full" or any(run.key not in results for run in runs):
            continue
        if runs[0].kind == "shared":
            yield from _shared(task, results, label, runs)
        else:
            cost = sum(float(results[run.key]["cost_s"]) for run in runs)
            if runs[0].kind == "inherit":  # and one full training of the plain network
                cost += full_cost(task, results) / len(task.architectures)
            settings = {"by": "brief", "epochs": runs[0].epochs} if runs[0].kind == "brief" else None
            scores = _accuracies(task, results, runs, -1)[:, None]
            yield Estimate(name=label, scores=scores, cost_s=cost, settings=settings)


def _stopped(task: CalibrationTask, results: Mapping[str, Result]) -> Iterator[Estimate]:
    """Full trainings looked at before their end, which cost no run of their own."""
    last = task.training.epochs
    for epochs in task.config.with_lengths(last).brief_epochs or ():
        if epochs < last:
            scores = _accuracies(task, results, task.truth, epochs - 1).reshape(-1, len(task.architectures)).T
            cost = full_cost(task, results) * epochs / last
            yield Estimate(name=f"full, stopped after {epochs}", scores=scores, cost_s=cost, of_truth=True)


def _shared(
    task: CalibrationTask, results: Mapping[str, Result], label: str, runs: Sequence[Run]
) -> Iterator[Estimate]:
    """One network alone, the mean of two and the mean of all; by accuracy and by loss.

    Every choice of so many among the networks is a scoring: one of them alone would be told by its luck.
    """
    networks: dict[int, list[Result]] = {}
    for run in runs:
        networks.setdefault(run.seed, []).append(results[run.key])
    whole = [parts for parts in networks.values() if not any("failed" in part for part in parts)]
    costs = [sum(part["train_s"] + part["score_s"] for part in parts) for parts in whole]
    if not whole:
        return
    by_digest = [{d: score for part in parts for d, score in part["scores"].items()} for parts in whole]
    for measure, column, sign in (("accuracy", 0, 1), ("loss", 1, -1)):
        scores = np.array([[sign * found[d][column] for d in task.by_digest] for found in by_digest])
        for count in sorted({1, min(2, len(whole)), len(whole)}):
            name = f"{label}, {count} network{'s' if count > 1 else ''}, by {measure}"
            subsets = itertools.combinations(range(len(whole)), count)
            yield Estimate(
                name=name,
                scores=np.stack([scores[list(some)].mean(0) for some in subsets], axis=1),
                cost_s=sum(costs) * count / len(whole),
                settings={"by": "shared", "epochs": runs[0].epochs, "networks": count, "measure": measure},
            )
