"""What a study has found: the best network beside the plain one and the landmarks."""

import shlex
from dataclasses import dataclass

from nas.study.records import Study, TrialRecord, best_of, wilson_interval
from nas.study.storage import DEFAULT_URL, redact

NOTE = (
    "One seed each, and intervals of the {count} validation images alone: a candidate to confirm with more seeds, "
    "not a proven difference. The best of many is also partly the luckiest of many."
)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A network whose score stands beside the others."""

    label: str
    """`best` or the name of a landmark."""
    trial: int
    state: str
    score: float
    low: float
    high: float
    """Wilson interval of the score, from the validation images alone."""
    num_params: int | None
    macs: int | None
    above_plain: float | None
    """Score minus that of the plain network; None where either has none."""
    is_best: bool


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best network of a study and what it stands against."""

    best: TrialRecord | None
    plain: Contender | None
    contenders: tuple[Contender, ...]
    """Best first, then the landmarks from high to low."""
    headline: str
    """One sentence."""
    note: str
    """What the scores do not show."""
    export: str
    """The command that writes the best architecture."""

    @property
    def winner(self) -> Contender | None:
        """The best network as a contender."""
        return next((c for c in self.contenders if c.is_best), None)


def answer(study: Study, records: tuple[TrialRecord, ...]) -> Answer:
    """The answer as far as the study has come."""
    best = best_of(records)
    plain_score = next((t.score for t in records if t.landmark == "plain"), None)
    shown = [t for t in records if t.score is not None and (t.landmark or t is best)]
    shown.sort(key=lambda t: (t is not best, -(t.score or 0.0), t.number))
    contenders = tuple(_contender(t, t is best, plain_score, study.num_val) for t in shown)
    plain = next((c for c in contenders if c.label == "plain"), None)
    return Answer(
        best=best,
        plain=plain,
        contenders=contenders,
        headline=_headline(contenders, plain, sum(t.state == "complete" for t in records)),
        note=NOTE.format(count=study.num_val),
        export=export_command(study),
    )


def _contender(record: TrialRecord, is_best: bool, plain: float | None, num_val: int) -> Contender:
    score = record.score or 0.0
    low, high = wilson_interval(score, num_val)
    return Contender(
        label=record.landmark or "best",
        trial=record.number,
        state=record.state,
        score=score,
        low=low,
        high=high,
        num_params=record.num_params,
        macs=record.macs,
        above_plain=None if plain is None else score - plain,
        is_best=is_best,
    )


def _headline(contenders: tuple[Contender, ...], plain: Contender | None, num_complete: int) -> str:
    best = contenders[0] if contenders and contenders[0].is_best else None
    if best is None:
        return "No trial is complete yet."
    found = f"The best of {num_complete} complete trials scored {best.score:.4f}"
    if plain is None or best.above_plain is None:
        return f"{found}; the plain network has no score yet."
    if best.trial == plain.trial:
        return f"{found}: it is the plain network itself. No fusion did better."
    gap = f"{abs(100 * best.above_plain):.2f} points {'above' if best.above_plain >= 0 else 'below'} the plain network"
    if best.low > plain.high:
        return f"{found}, {gap}; their intervals do not meet."
    return f"{found}, {gap}; their intervals overlap."


def export_command(study: Study) -> str:
    """The command that writes the best architecture of a study, to be copied into a shell."""
    storage = "" if study.url == DEFAULT_URL else f" --storage {shlex.quote(redact(study.url))}"
    return f"nas export {shlex.quote(study.name)}{storage} -o best.yaml"
