"""Where a study stands, in a few lines."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from nas.study.records import TrialRecord, WorkerRecord, best_of, front_of, landmark_of
from nas.study.store.reader import Study

ENDED = ("complete", "pruned", "fail")
RATE_TRIALS = 50
"""Trials over which the throughput is taken."""


@dataclass(frozen=True, kw_only=True)
class CandidateSummary:
    """How far the cheap scores are, of which the best candidates are trained."""

    by: str
    ended: int
    target: int
    epochs: int
    """Of a brief training, of each shared network, or of the full trainings that a predictor was fitted to."""
    networks: int | None = None
    """Shared networks; None where there are none."""
    trainings: int | None = None
    """What a predictor was fitted to; None where there is none."""

    def __str__(self) -> str:
        epochs = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        return f"{self.ended} of {self.target} candidates scored by {self._how()} ({epochs})"

    def _how(self) -> str:
        if self.trainings:
            return f"a predictor of {self.trainings} full trainings"
        if self.networks:
            return "a shared network" if self.networks == 1 else f"the mean of {self.networks} shared networks"
        return "brief training"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The state of a study at one moment."""

    name: str
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
    """Read a study and sum it up."""
    target, candidates = study.target, study.candidates()
    trials, now, goals = study.trials(), study.now(), study.settings.goals
    alive = tuple(worker for worker in study.workers() if worker.alive(now))
    scoring = tuple(worker for worker in candidates.workers() if worker.alive(now)) if candidates else ()
    rate = _trials_per_s(trials, alive)
    ended = sum(t.state in ENDED for t in trials)
    return Summary(
        name=study.name,
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


def _verdict(study: Study) -> str | None:
    """What the confirmation says in a sentence."""
    if not study.confirmations():
        return None
    from nas.report.confirm import verdict

    said = verdict(study)
    return said.sentence if said else None


def candidate_summary(study: Study) -> CandidateSummary | None:
    """How far the cheap scores of a study are; None where every candidate is trained."""
    candidates = study.candidates()
    if candidates is None:
        return None
    estimate = candidates.config["estimate"]
    return CandidateSummary(
        by=estimate["by"],
        ended=candidates.num_ended(),
        target=candidates.target,
        epochs=candidates.config["training"]["epochs"],
        networks=estimate["networks"] if estimate["by"] == "shared" else None,
        trainings=study.predictor["num_trainings"] if estimate["by"] == "predictor" else None,
    )


def _trials_per_s(trials: tuple[TrialRecord, ...], workers: tuple[WorkerRecord, ...]) -> float | None:
    """Workers by the mean time of the last trials that ended since the oldest of them began."""
    since = min((worker.started_at for worker in workers), default=0.0)
    ended = [
        (t.finished_at, (t.finished_at - t.started_at).total_seconds())
        for t in trials
        if t.state in ("complete", "pruned") and t.started_at and t.finished_at and t.finished_at.timestamp() >= since
    ]
    recent = [seconds for _, seconds in sorted(ended)[-RATE_TRIALS:]]
    total = sum(recent)
    return len(workers) * len(recent) / total if workers and total > 0 else None
