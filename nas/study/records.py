"""Reading a study from its database: frozen records, without optuna and without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nas.architecture import Architecture
from nas.measurement import Cost, EpochRecord, StabilityEvent
from nas.study.goals import REFUSED, Objectives

ENDED = ("complete", "pruned", "fail")
"""States of trials that came to an end."""
ALIVE_S = 30.0
"""A worker counts as alive while its last sign of life is younger than this."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial: what was trained and what came out."""

    number: int
    state: str
    """complete, pruned, running, waiting or fail."""
    reason: str | None
    """Why a trial did not complete: a pruner, a signal of the guard, a duplicate."""
    landmark: str | None
    digest: str | None
    architecture: Architecture | None
    score: float | None
    """Validation accuracy after the last epoch that was run."""
    seed: int | None
    budget: int | None
    """Epochs that were asked for."""
    num_params: int | None
    macs: int | None
    cost: Cost | None
    """What was known before the training, where the study's objectives or constraints asked for it."""
    values: Mapping[str, float]
    """The objectives' values after the last epoch; those that are not known are left out."""
    merit: float | None
    """The leading objective's value, turned so that larger is better; None unless complete within the constraints."""
    wall_s: float | None
    worker: str | None
    crashes: int
    """Workers that died while they trained it, since its last epoch."""
    started_at: datetime | None
    finished_at: datetime | None
    epochs: tuple[EpochRecord, ...]
    events: tuple[StabilityEvent, ...]
    run: str | None = None
    """What a trial of a calibration does: the key of its run."""

    @property
    def refused(self) -> str | None:
        """How the network breaks a constraint that keeps it from training; None where none does."""
        kind, _, text = (self.reason or "").partition(": ")
        return text if kind == REFUSED else None

    @property
    def stage_texts(self) -> tuple[str, ...]:
        """The fusion of each stage in short."""
        return tuple(str(stage) for stage in self.architecture.stages) if self.architecture else ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``; the fields are stable."""
        return {
            "number": self.number,
            "state": self.state,
            "reason": self.reason,
            "landmark": self.landmark,
            "run": self.run,
            "digest": self.digest,
            "stages": [s.to_dict() for s in self.architecture.canonical().stages] if self.architecture else None,
            "score": self.score,
            "epochs": len(self.epochs),
            "budget": self.budget,
            "seed": self.seed,
            "num_params": self.num_params,
            "macs": self.macs,
            "values": dict(self.values),
            "feasible": self.merit is not None if self.state == "complete" else None,
            "latency_ms": self.cost.latency_ms if self.cost else None,
            "latency_quartiles_ms": self.cost and [self.cost.latency_low_ms, self.cost.latency_high_ms],
            "peak_memory_mb": self.cost.peak_memory_mb if self.cost else None,
            "wall_s": self.wall_s,
            "worker": self.worker,
            "crashes": self.crashes,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "val_accuracy": [e.val_accuracy for e in self.epochs],
            "events": [_event_dict(e) for e in self.events],
        }


def _event_dict(event: StabilityEvent) -> dict[str, Any]:
    return {**vars(event), "trace": list(event.trace)}


@dataclass(frozen=True, kw_only=True)
class WorkerRecord:
    """One worker process of a study."""

    worker_id: str
    host: str
    pid: int
    device: str
    started_at: float
    heartbeat_at: float
    ended_at: float | None

    def alive(self, now: float) -> bool:
        """Whether it has given a sign of life lately and has not said goodbye."""
        return self.ended_at is None and now - self.heartbeat_at < ALIVE_S


def best_of(trials: tuple[TrialRecord, ...], goals: Objectives) -> TrialRecord | None:
    """The trial with the highest merit; of equals one that no other of them dominates, with the lowest number."""
    merit = max((t.merit for t in trials if t.merit is not None), default=None)
    equals = tuple(t for t in trials if merit is not None and t.merit == merit)
    return next(iter(front_of(equals, goals)), None)


def front_of(trials: tuple[TrialRecord, ...], goals: Objectives) -> tuple[TrialRecord, ...]:
    """The trials within the constraints that none dominates, best in the leading objective first.

    With one objective these are those that share the best value.
    """
    able = [t for t in trials if t.merit is not None]
    if goals.several:
        from nas.study.pareto import front

        able = [able[i] for i in front(goals, [goals.values(t.values) for t in able])]
    else:
        best = max((t.merit or 0.0 for t in able), default=None)
        able = [t for t in able if t.merit == best]
    return tuple(sorted(able, key=lambda t: (-(t.merit or 0.0), t.number)))


def landmark_of(trials: tuple[TrialRecord, ...], name: str) -> TrialRecord | None:
    """The trial of a landmark, None where the study has none (yet)."""
    return next((t for t in trials if t.landmark == name), None)
