"""Where a study stands, in a few lines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from nas.report.candidates import CandidateSummary, candidate_summary
from nas.study.records import ENDED, TrialRecord, WorkerRecord, best_of, front_of, landmark_of
from nas.study.store.reader import Study

RATE_TRIALS = 50
"""Trials over which the throughput is taken."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The state of a study at one moment."""

    name: str
    url: str
    """Of its database."""
    target: int
    num_val: int
    states: dict[str, int]
    reasons: dict[str, int]
    objectives: dict[str, str]
    """`maximize` or `minimize` by quantity."""
    best: TrialRecord | None
    """By the first of the objectives that tells quality."""
    front: tuple[TrialRecord, ...]
    """Networks that none beats in every objective; empty where there is one objective only."""
    plain: TrialRecord | None
    best_fused: TrialRecord | None
    """The best network that carries attention; the same as ``best`` unless that is the plain one."""
    candidates: CandidateSummary | None
    """None where every candidate is trained."""
    running: tuple[TrialRecord, ...]
    epochs: int
    """Epochs of a full trial."""
    workers: tuple[WorkerRecord, ...]
    """Those that are alive, on the trials or on the candidates."""
    trials_per_minute: float | None
    """Over the last trials that the living workers ended; None before there are any."""
    left_s: float | None
    """Time that the remaining trials will take at this rate."""
    unit: str = "trial"
    """What is counted: a `trial`, a `run` of a calibration, a `training` of a confirmation."""
    verdict: str | None = None
    """What its confirmation says, or how far that is; None where none was begun."""

    @property
    def ended(self) -> int:
        """Trials that came to an end."""
        return sum(self.states.get(state, 0) for state in ENDED)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.ended >= self.target and not (self.states.get("running") or self.states.get("waiting"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``; the fields are stable."""
        return {
            "study": self.name,
            "target": self.target,
            "ended": self.ended,
            "done": self.done,
            "states": self.states,
            "reasons": self.reasons,
            "objectives": self.objectives,
            "best": self.best.to_dict() if self.best else None,
            "front": [record.to_dict() for record in self.front],
            "plain": self.plain.to_dict() if self.plain else None,
            "best_fused": self.best_fused.to_dict() if self.best_fused else None,
            "candidates": asdict(self.candidates) if self.candidates else None,
            "running": [record.to_dict() for record in self.running],
            "workers_alive": len(self.workers),
            "trials_per_minute": self.trials_per_minute,
            "left_s": self.left_s,
            "verdict": self.verdict,
        }


def summarise(study: Study) -> Summary:
    """Read a study, or a calibration, and sum it up."""
    if study.calibrates is not None:
        return summarise_parts(study.name, "run", [study], _efforts(study))
    target, candidates = study.target, study.candidates()
    trials, now, goals = study.trials(), study.now(), study.settings.goals
    alive = tuple(worker for worker in study.workers() if worker.alive(now))
    scoring = tuple(worker for worker in candidates.workers() if worker.alive(now)) if candidates else ()
    rate = _efforts_per_s(trials, alive)
    ended = sum(t.state in ENDED for t in trials)
    return Summary(
        name=study.name,
        url=study.url,
        target=target,
        num_val=study.num_val,
        states=dict(Counter(t.state for t in trials)),
        reasons=dict(Counter(t.reason.partition(":")[0] for t in trials if t.reason)),
        objectives=dict(goals.directions),
        best=best_of(trials, goals),
        front=front_of(trials, goals) if goals.several else (),
        plain=landmark_of(trials, "plain"),
        best_fused=best_of(tuple(t for t in trials if t.architecture and not t.architecture.is_plain), goals),
        candidates=candidate_summary(study),
        running=tuple(t for t in trials if t.state == "running"),
        epochs=study.config["training"]["epochs"],
        workers=(*alive, *scoring),
        trials_per_minute=rate and 60 * rate,
        left_s=(target - ended) / rate if rate else None,
        verdict=_verdict(study),
    )


def summarise_confirmation(study: Study) -> Summary:
    """How far the confirmation of a study is, which has been begun."""
    return summarise_parts(f"{study.name}/confirm", "training", study.confirmations())


def summarise_parts(
    name: str, unit: str, parts: Sequence[Study], efforts: Mapping[str, float] = MappingProxyType({})
) -> Summary:
    """Companion studies as one piece of work: how far it is, who works, and how long it will take.

    Args:
        efforts: what the runs of a calibration take, by their keys; without it trials count alike.
    """
    trials = tuple(t for part in parts for t in part.trials())
    now = parts[0].now()
    alive = tuple(worker for part in parts for worker in part.workers() if worker.alive(now))
    target = sum(part.target for part in parts)
    ended = sum(t.state in ENDED for t in trials)
    total = sum(efforts.get(key, 1.0) for part in parts for key in part.runs) or float(target)
    left = total - sum(efforts.get(t.run or "", 1.0) for t in trials if t.state in ENDED)
    rate, pace = (_efforts_per_s(trials, alive, weights) for weights in ({}, efforts))
    return Summary(
        name=name,
        url=parts[0].url,
        unit=unit,
        target=target,
        num_val=parts[0].num_val,
        states=dict(Counter(t.state for t in trials)),
        reasons=dict(Counter(t.reason.partition(":")[0] for t in trials if t.reason)),
        objectives=dict(parts[0].settings.goals.directions),
        best=None,
        front=(),
        plain=None,
        best_fused=None,
        candidates=None,
        running=tuple(t for t in trials if t.state == "running"),
        epochs=parts[0].config["training"]["epochs"],
        workers=alive,
        trials_per_minute=rate and 60 * rate,
        left_s=left / pace if pace and ended < target else None,
    )


def _efforts(calibration: Study) -> dict[str, float]:
    """Epochs that each run of a calibration takes, by its key."""
    from nas.study.calibration.task import stored_task

    return {run.key: run.effort for run in stored_task(calibration).runs}


def _verdict(study: Study) -> str | None:
    """What the confirmation says in a sentence."""
    if not study.confirmations():
        return None
    from nas.report.confirm import verdict

    said = verdict(study)
    return said.sentence if said else None


def _efforts_per_s(
    trials: Sequence[TrialRecord], workers: Sequence[WorkerRecord], efforts: Mapping[str, float] = MappingProxyType({})
) -> float | None:
    """Trials a second, or what the runs among them take: workers by the mean time of the last trials that ended since
    the oldest of them began."""
    since = min((worker.started_at for worker in workers), default=0.0)
    ended = [
        (t.finished_at, (t.finished_at - t.started_at).total_seconds(), efforts.get(t.run or "", 1.0))
        for t in trials
        if t.state in ("complete", "pruned") and t.started_at and t.finished_at and t.finished_at.timestamp() >= since
    ]
    recent = sorted(ended)[-RATE_TRIALS:]
    total = sum(seconds for _, seconds, _ in recent)
    return len(workers) * sum(effort for _, _, effort in recent) / total if workers and total > 0 else None
