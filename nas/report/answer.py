"""What a study has found: the best network beside the plain one and the landmarks."""

from dataclasses import dataclass
from pathlib import Path

from nas.report.front import head
from nas.report.summary_text import ENDED_EARLY, early_end, value_text
from nas.statistics import wilson_interval
from nas.study.goals import Objectives
from nas.study.pareto import losses_of
from nas.study.records import TrialRecord, best_of, front_of, landmark_of
from nas.study.results import BEST, FRONT
from nas.study.store.hints import command_line
from nas.study.store.reader import Study

NOTE = (
    "One seed each, and intervals of the {count} validation images alone: a candidate to confirm with more seeds, "
    "not a proven difference. The best of many is also partly the luckiest of many."
)
NOTHING_YET = "No trial is complete yet."


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
    """Score minus that of the plain network; None where either was not trained to its end."""
    is_best: bool


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best network of a study, or the front of several objectives, and what it stands against."""

    best: TrialRecord | None
    """By the leading objective."""
    plain: Contender | None
    contenders: tuple[Contender, ...]
    """Best first, then the landmarks from high to low."""
    headline: str
    """One sentence."""
    note: str
    """What the scores do not show."""
    export: str
    """The command that writes the best architecture, or all of the front."""

    @property
    def winner(self) -> Contender | None:
        """The best network as a contender."""
        return next((c for c in self.contenders if c.is_best), None)


def answer(study: Study, records: tuple[TrialRecord, ...], *, confirmed: bool = False) -> Answer:
    """The answer as far as the study has come; ``confirmed`` where `nas confirm` has named a winner."""
    goals, num_complete = study.settings.goals, sum(t.state == "complete" for t in records)
    best = best_of(records, goals)
    plain_record = landmark_of(records, "plain")
    plain_score = plain_record.score if plain_record and plain_record.state == "complete" else None
    shown = [t for t in records if t.score is not None and (t.landmark or t is best)]
    shown.sort(key=lambda t: (t is not best, -(t.score or 0.0), t.number))
    contenders = tuple(_contender(t, t is best, plain_score, study.num_val) for t in shown)
    plain = next((c for c in contenders if c.label == "plain"), None)
    if goals.several:
        headline = _front_headline(records, goals, num_complete)
    elif goals.leading != "val_accuracy":
        headline = _value_headline(best, plain_record, goals.leading, num_complete)
    else:
        headline = _headline(contenders, plain_record, num_complete)
    return Answer(
        best=best,
        plain=plain,
        contenders=contenders,
        headline=headline,
        note=NOTE.format(count=study.num_val),
        export=export_command(study, confirmed=confirmed),
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
        above_plain=score - plain if plain is not None and record.state == "complete" else None,
        is_best=is_best,
    )


def _headline(contenders: tuple[Contender, ...], plain: TrialRecord | None, num_complete: int) -> str:
    best = contenders[0] if contenders and contenders[0].is_best else None
    if best is None:
        return NOTHING_YET
    found = f"The best of {num_complete} complete trials scored {best.score:.4f}"
    if best.label == "plain":
        return f"{found}: it is the plain network itself. No fusion did better."
    if best.above_plain is None:
        return f"{found}; {_no_plain(plain)}."
    beside = next(c for c in contenders if c.label == "plain")
    gap = f"{abs(100 * best.above_plain):.2f} points {'above' if best.above_plain >= 0 else 'below'} the plain network"
    if best.low > beside.high:
        return f"{found}, {gap}; their intervals do not meet."
    return f"{found}, {gap}; their intervals overlap."


def _no_plain(plain: TrialRecord | None) -> str:
    """Why nothing can be held against the plain network."""
    if plain is None or plain.state not in ENDED_EARLY:
        return "the plain network has no score yet"
    return f"the plain network was {early_end(plain)}, so nothing can be compared with it"


def _value_headline(best: TrialRecord | None, plain: TrialRecord | None, name: str, num_complete: int) -> str:
    """Of one objective other than the accuracy, which the intervals are of."""
    if best is None:
        return NOTHING_YET
    found = f"The best of {num_complete} complete trials has {name} {value_text(name, best.values[name])}"
    if best is plain:
        return f"{found}: it is the plain network itself. No fusion did better."
    if plain is None or plain.state != "complete":
        return f"{found}; {_no_plain(plain)}."
    return f"{found}, the plain network {value_text(name, plain.values[name])}."


def _front_headline(records: tuple[TrialRecord, ...], goals: Objectives, num_complete: int) -> str:
    members, plain = front_of(records, goals), landmark_of(records, "plain")
    if not members:
        return NOTHING_YET
    count = f"{len(members)} network{'s' if len(members) > 1 else ''}"
    names = ", ".join(head(name, goals) for name in goals.names)
    found = f"{count} that none beats in every objective ({names}), of {num_complete} complete trials"
    if plain is None or plain.state != "complete":
        return f"{found}; {_no_plain(plain)}."
    if plain.merit is None:
        return f"{found}; the plain network breaks a constraint."
    if plain in members:
        return f"{found}; the plain network is one of them."
    losses = losses_of(goals, [goals.values(t.values) for t in (plain, *members)])
    better = int((losses[1:] <= losses[0]).all(axis=1).sum())
    return f"{found}; {better} of them {'is' if better == 1 else 'are'} at least as good as the plain network in all."


def export_command(study: Study, folder: Path | None = None, *, confirmed: bool = False) -> str:
    """The command that writes the answer of a study, to be copied into a shell; a front goes to ``folder``."""
    words: list[str | Path] = ["--trial", "confirmed", "-o", BEST] if confirmed else ["-o", BEST]
    if study.settings.goals.several:
        words = ["--trial", "front", "-o", folder or FRONT]
    return command_line("export", study.name, *words, url=study.url)
