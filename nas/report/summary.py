"""Where a study stands, in a few lines."""

import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from nas.statistics import wilson_interval
from nas.study.doctor import Health
from nas.study.records import TrialRecord, WorkerRecord, best_of, front_of, landmark_of
from nas.study.store.hints import command_line
from nas.study.store.reader import Study

SKEW_S = 5.0
"""A clock that is further off than this is worth a word."""
LITTLE_BYTES = 2**30
"""Less free space than this too."""
ENDED = ("complete", "pruned", "fail")
FRONT_ROWS = 12
"""Members of a front that a summary shows."""
RATE_TRIALS = 50
"""Trials over which the throughput is taken."""
NOTE = (
    "       (one seed each, intervals of the {count} validation images alone:\n"
    "       a candidate to confirm, not a proven difference)"
)


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
    verdict: str | None = None
    """What its confirmation says, or how far that is; None where none was begun."""

    @property
    def ended(self) -> int:
        """Trials that came to an end."""
        return sum(self.states.get(state, 0) for state in ENDED)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.ended >= self.target

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
    trials = tuple(t for t in study.trials() if t.number < target)
    now, goals = time.time(), study.settings.goals
    alive = tuple(worker for worker in study.workers() if worker.alive(now))
    scoring = tuple(worker for worker in candidates.workers() if worker.alive(now)) if candidates else ()
    rate = _trials_per_s(trials, alive)
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


def counts_text(summary: Summary) -> str:
    """The counts of a summary, in one line."""
    scoring = summary.candidates
    parts = [str(scoring)] if scoring and scoring.ended < scoring.target else []
    return " · ".join(filter(None, (*parts, f"{summary.ended} of {summary.target} trials", states_text(summary))))


def states_text(summary: Summary) -> str:
    """Trials by state, and why some ended early."""
    parts = [f"{summary.states[s]} {s}" for s in ("running", "complete", "pruned", "fail") if summary.states.get(s)]
    if summary.reasons:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.reasons.items()))
        parts[-1] += f" ({reasons})"
    return " · ".join(parts)


def pace_text(summary: Summary) -> str:
    """Workers, throughput and time left, in one line; empty where nobody works."""
    count = len(summary.workers)
    if not count:
        return ""
    parts = [f"{count} worker{'s' if count > 1 else ''}"]
    if summary.trials_per_minute and summary.left_s is not None:
        parts += [f"{summary.trials_per_minute:.1f} trials/min", f"about {duration_text(summary.left_s)} left"]
    return " · ".join(parts)


def duration_text(seconds: float) -> str:
    """A duration for people: ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _trial_lines(label: str, record: TrialRecord, count: int) -> list[str]:
    low, high = wilson_interval(record.score or 0.0, count)
    params = f"  {record.num_params:,} parameters" if record.num_params else ""
    ended = f"  {early_end(record)}" if record.state in ENDED_EARLY else ""
    first = f"{label:<6} {record.score:.4f} [{low:.3f}, {high:.3f}]  trial {record.number}{params}{ended}"
    return [first] if record.landmark == "plain" else [first, f"       {record.architecture}"]


ENDED_EARLY = ("pruned", "fail")
"""States of trials whose score is not that of a full training."""


def early_end(record: TrialRecord) -> str:
    """Where and why a trial of `ENDED_EARLY` ended: ``stopped after 4 of 30 epochs (chance-level)``."""
    return f"stopped after {len(record.epochs)} of {record.budget or '?'} epochs ({record.reason or record.state})"


def health_text(health: Health, name: str, url: str) -> str:
    """What stands behind a study, in a line or two: the second names what `nas recover` mends."""
    lines = [foundation_text(health)]
    wrong = {
        "stale trials": len(health.stale_trials),
        "dead workers": len(health.dead_workers),
        "orphan checkpoints": len(health.orphan_checkpoints),
    }
    if any(wrong.values()):
        counts = ", ".join(f"{count} {what}" for what, count in wrong.items() if count)
        lines.append(f"{counts}; mend that with: {command_line('recover', name, url=url)}")
    return "\n".join(lines)


def foundation_text(health: Health) -> str:
    """Schema, space and clock in one line."""
    skewed = abs(health.clock_skew_s) > SKEW_S
    clock = f" · this clock is {health.clock_skew_s:+.1f} s off the database's: set it" if skewed else ""
    space = f"{health.free_bytes / 2**30:.1f} GiB free"
    return f"schema {health.schema} · {space}{', too little' if health.free_bytes < LITTLE_BYTES else ''}{clock}"


SIGNS = {"maximize": "↑", "minimize": "↓"}


def value_text(name: str, value: float | None) -> str:
    """An objective's value for people: counts in full, the rest to four digits."""
    if value is None:
        return "-"
    return (
        f"{value:,.0f}" if name in ("params", "macs") else f"{value:.4f}" if name.startswith("val_") else f"{value:.4g}"
    )


def front_text(summary: Summary, num_rows: int = FRONT_ROWS) -> str:
    """The front as a table, the plain network below it."""
    names = list(summary.objectives)
    heads = [f"{name} {SIGNS[way]}" for name, way in summary.objectives.items()]
    shown = list(summary.front[:num_rows])
    marks = {record.number: "" for record in shown}
    if summary.plain and summary.plain.values:
        shown += [summary.plain] if summary.plain not in shown else []
        marks[summary.plain.number] = "plain, on the front" if summary.plain in summary.front else "plain"
    rows = [[value_text(name, record.values.get(name)) for name in names] for record in shown]
    widths = [max(len(head), *(len(row[i]) for row in rows)) for i, head in enumerate(heads)]
    count = len(summary.front)
    lines = [f"front  {count} network{'s' if count != 1 else ''} that none beats in every objective"]
    lines.append("       " + "  ".join(f"{head:>{w}}" for head, w in zip(heads, widths, strict=True)) + "  trial")
    for record, row in zip(shown, rows, strict=True):
        cells = "  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True))
        network = marks[record.number] or " | ".join(record.stage_texts)
        lines.append(f"       {cells}  {record.number:<5}  {network}")
    if count > num_rows:
        every = command_line("trials", summary.name, url=summary.url)
        lines.append(f"       and {count - num_rows} more: {every}")
    return "\n".join(lines)


def summary_text(summary: Summary) -> str:
    """A summary for people."""
    lines = [f"study {summary.name}: {counts_text(summary)}"]
    if summary.candidates:
        lines.append(f"       {summary.candidates}; the best of them are trained")
    if summary.best:
        lines.extend(_trial_lines("best", summary.best, summary.num_val))
    if summary.best_fused and summary.best_fused is not summary.best:
        lines.extend(_trial_lines("fused", summary.best_fused, summary.num_val))
    if summary.plain and summary.plain.score is not None:
        lines.extend(_trial_lines("plain", summary.plain, summary.num_val))
    if summary.front:
        lines.append(front_text(summary))
    if summary.best:
        lines.append(NOTE.format(count=summary.num_val))
    if summary.verdict:
        lines.append(summary.verdict)
    if pace := pace_text(summary):
        lines.append(pace)
    return "\n".join(lines)
