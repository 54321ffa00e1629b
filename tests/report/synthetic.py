"""Studies written straight into a database, and records made up one by one, without training."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from nas.architecture import Architecture, Backbone, StageFusion
from nas.measurement import EpochRecord, StabilityEvent
from nas.space.landmarks import LANDMARKS, landmark_in
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.records import TrialRecord
from nas.study.store import tables
from nas.study.store.optuna_storage import open_storage
from nas.study.store.reader import Study, open_study
from tests.study.conftest import SUMMARY

EPOCHS = 5
START = datetime(2026, 1, 1)
OPTUNA_TRIALS = tables.optuna_trials
P1_SE = StageFusion(pattern="p1", attention="se")
PLAIN = StageFusion()

Rows = dict[sa.TableClause, list[dict[str, Any]]]


def architecture(*stages: StageFusion) -> Architecture:
    """A micro network with these fusions in its first stages."""
    filled = (*stages, *(PLAIN,) * (4 - len(stages)))
    return Architecture(backbone=Backbone(name="resnet_micro", stem="small"), num_classes=10, in_chans=1, stages=filled)


def record(number: int, *accuracies: float, state: str = "complete", **fields: Any) -> TrialRecord:
    """A record whose epochs gave these accuracies, in a second each."""
    epochs = tuple(
        EpochRecord(
            epoch=i, train_loss=1, val_loss=1, val_accuracy=a, learning_rate=0.1, grad_norm=1, train_s=0.75, val_s=0.25
        )
        for i, a in enumerate(accuracies)
    )
    usual: dict[str, Any] = {
        "reason": None,
        "landmark": None,
        "digest": "d",
        "architecture": architecture(),
        "score": accuracies[-1] if accuracies else None,
        "seed": 0,
        "budget": EPOCHS,
        "num_params": 100,
        "macs": 1000,
        "cost": None,
        "values": {"val_accuracy": accuracies[-1]} if accuracies else {},
        "merit": fields.get("score", accuracies[-1] if accuracies else None) if state == "complete" else None,
        "wall_s": float(len(accuracies)),
        "worker": "w",
        "crashes": 0,
        "started_at": None,
        "finished_at": None,
        "events": (),
    }
    return TrialRecord(number=number, state=state, epochs=epochs, **{**usual, **fields})


def event(*losses: float | str, signal: str = "loss-spike") -> StabilityEvent:
    """An event whose trace holds these losses."""
    trace = tuple({"epoch": 0, "step": 10 + i, "loss": loss, "grad_norm": 1.0} for i, loss in enumerate(losses))
    return StabilityEvent(
        signal=signal, epoch=0, step=9 + len(losses), value=9.0, threshold=4.0, message="it jumped", trace=trace
    )


def synthetic(url: str, num_trials: int, *, name: str = "made", source: str = "digits", **keys: Any) -> Study:
    """A study of made-up trials: landmarks first; then some are stopped, some break and some fail.

    With several objectives (a study's ``keys``) they have costs too, some break a constraint and one is promoted.
    """
    content = {"name": name, "space": "full", "trials": num_trials, "data": {"source": source}, **keys}
    config = StudyConfig.parse(content, "synthetic")
    study = create_study(config, f"name: {name}\n", url, lambda _: SUMMARY)
    space = SearchSpace.from_dict(study.space)
    random = np.random.default_rng(0)
    rows: Rows = {OPTUNA_TRIALS: [], **{getattr(tables, name): [] for name in OUR_TABLES}}
    seen: set[str] = set()
    for number in range(num_trials):
        landmark = list(LANDMARKS)[number] if number < len(LANDMARKS) else None
        drawn = landmark_in(space, landmark) if landmark else space.sample(random)
        while drawn.digest in seen:
            drawn = space.sample(random)
        seen.add(drawn.digest)
        add_trial(rows, study.study_id, number, drawn, random)
        if config.goals.several:
            add_cost(rows, study.study_id, number, random)
    engine = open_storage(url).engine
    with engine.begin() as connection:
        for table in (OPTUNA_TRIALS, tables.members):
            connection.execute(sa.delete(table).where(table.c.study_id == study.study_id))
        for table, those in rows.items():
            if those:
                connection.execute(sa.insert(table), those)
    engine.dispose()
    return open_study(url, name)


OUR_TABLES = ("architectures", "members", "trials", "measurements", "epochs", "events", "costs", "promotions")
SEVERAL: dict[str, Any] = {
    "objectives": {"val_accuracy": "maximize", "latency_ms": "minimize", "params": "minimize"},
    "constraints": ["latency_ms <= 1.5 * plain", "params <= 400000", "val_accuracy >= 0.9"],
    "training": {"epochs": EPOCHS},
}
"""Keys of a study with three objectives."""
KINDS = {
    "complete": ("COMPLETE", EPOCHS, None),
    "stopped": ("PRUNED", 2, "median"),
    "unstable": ("PRUNED", 1, "loss-spike"),
    "fail": ("FAIL", 0, "its worker died 3 times"),
}


def add_cost(rows: Rows, study_id: int, number: int, random: np.random.Generator) -> None:
    """What was known of a trial before its training: trials 9, 34, … were too slow, trial 6 was promoted."""
    trial_id, latency = 1000 * study_id + number + 1, 1.0 + 0.4 * (number > 0) * random.random()
    too_slow = number % 25 == 9
    rows[tables.costs].append(
        {
            "trial_id": trial_id,
            "study_id": study_id,
            "num_params": 308_538 + 37 * (number % 7),
            "macs": 994_000,
            "latency_ms": 2.0 if too_slow else latency,
            "latency_low_ms": latency - 0.1,
            "latency_high_ms": latency + 0.2,
            "plain_latency_ms": 1.0,
            "device": "cpu",
            "broken": "latency_ms 2 > 1.5" if too_slow else None,
        }
    )
    if too_slow:
        rows[OPTUNA_TRIALS][-1]["state"] = "PRUNED"
        rows[tables.trials][-1]["reason"] = "infeasible: latency_ms 2 > 1.5"
    if number == 6:
        rows[tables.promotions].append({"trial_id": trial_id, "study_id": study_id, "epochs": 1})


def kind_of_number(number: int) -> str:
    """Trials 9, 34, … fail, 7, 17, … break, 8, 13, … are stopped; the landmarks are complete."""
    if number < len(LANDMARKS):
        return "complete"
    if number % 25 == 9:
        return "fail"
    return "unstable" if number % 10 == 7 else "stopped" if number % 5 == 3 else "complete"


def add_trial(rows: Rows, study_id: int, number: int, drawn: Architecture, random: np.random.Generator) -> None:
    """The rows of one trial."""
    trial_id, digest = 1000 * study_id + number + 1, drawn.digest
    kind = kind_of_number(number)
    state, num_epochs, reason = KINDS[kind]
    landmark = list(LANDMARKS)[number] if number < len(LANDMARKS) else None
    final = 0.93 + 0.0025 * sum(not s.is_off for s in drawn.stages) + 0.015 * random.standard_normal()
    curve = [round(float(min(final, 0.99) - 0.4 * np.exp(-2 * epoch)) * 360) / 360 for epoch in range(num_epochs)]
    began = START + timedelta(seconds=5 * number)
    ended = began + timedelta(seconds=4)
    rows[OPTUNA_TRIALS].append(
        dict(zip(OPTUNA_TRIALS.c.keys(), (trial_id, number, study_id, state, began, ended), strict=True))
    )
    trial = {"trial_id": trial_id, "study_id": study_id, "digest": digest, "landmark": landmark}
    rows[tables.architectures].append({"digest": digest, "content": drawn.canonical().to_dict()})
    rows[tables.members].append({"trial_id": trial_id, "study_id": study_id})
    rows[tables.trials].append({**trial, "crashes": 0, "reason": reason})
    for epoch, accuracy in enumerate(curve):
        losses = {"train_loss": 1 / (1 + epoch), "val_loss": 1.0, "val_accuracy": accuracy}
        rest = {"learning_rate": 0.1, "grad_norm": 1.0, "train_s": 0.75, "val_s": 0.25}
        rows[tables.epochs].append({"trial_id": trial_id, "seed": 0, "epoch": epoch, **losses, **rest})
    if kind == "fail":
        return
    rows[tables.measurements].append(
        {
            **{key: trial[key] for key in ("trial_id", "study_id", "digest")},
            "seed": 0,
            "budget": EPOCHS,
            "outcome": kind,
            "reason": reason,
            "score": curve[-1],
            "num_params": 308_538 + 37 * number,
            "macs": 994_000 + int(random.integers(100_000)) * (landmark != "plain"),
            "wall_s": float(num_epochs),
            "worker_id": "w",
            "finished_at": ended.timestamp(),
        }
    )
    if kind == "unstable":
        growth = 1.1 + 0.1 * random.random()
        spoke = event(*(growth**i for i in range(19)), "nan")
        rows[tables.events].append({"trial_id": trial_id, "seed": 0, **vars(spoke), "trace": list(spoke.trace)})
