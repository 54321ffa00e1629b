"""What matters: how much of the scores a choice explains, and the mean score of the networks that share it."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import fdtrc, stdtrit

from nas.architecture import ATTENTIONS, PATTERNS, StageFusion
from nas.backbones import STAGES
from nas.study.records import ENDED, TrialRecord

Choice = Literal["pattern", "attention"]
OPTIONS: dict[Choice, tuple[str, ...]] = {"pattern": PATTERNS, "attention": ("none", *ATTENTIONS)}


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The marginal effect of one option in one stage, whatever the other stages hold."""

    stage: int
    """From 1."""
    choice: Choice
    option: str
    num_trials: int
    """Ended trials with this option."""
    num_complete: int
    """Those of them that ran to the end; only they enter the mean."""
    mean: float
    low: float | None
    high: float | None
    """95 % interval of the mean; None where the stage has no more trials than options."""

    @property
    def total(self) -> float:
        """Sum of the scores."""
        return self.mean * self.num_complete


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What one choice in one stage explains of the scores, by itself."""

    stage: int
    """From 1."""
    choice: Choice
    share: float
    """Part of the variance of the scores, in [0, 1]: ω² of a one-way analysis (W. L. Hays, Statistics, 1963).

    Corrected for chance: on average 0 where the choice does nothing, which the normalised importances of a
    forest are not.
    """
    p_value: float
    """Of the F test, without correction for how many choices are looked at."""


def importances(records: Sequence[TrialRecord]) -> tuple[Importance, ...]:
    """Every choice in every stage that can be told, largest share first."""
    complete = [t for t in records if t.architecture is not None and t.state == "complete" and t.score is not None]
    found = [
        importance
        for stage in range(STAGES)
        for choice in OPTIONS
        if (importance := _importance(complete, stage, choice)) is not None
    ]
    return tuple(sorted(found, key=lambda i: (-i.share, i.p_value, i.stage, i.choice)))


def _importance(complete: Sequence[TrialRecord], stage: int, choice: Choice) -> Importance | None:
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for record in complete:
        if record.architecture is not None and record.score is not None:
            groups[_option(record.architecture.stages[stage], choice)].append(record.score)
    count = sum(map(len, groups.values()))
    between, within = len(groups) - 1, count - len(groups)
    if between < 1 or within < 1 or len({score for scores in groups.values() for score in scores}) == 1:
        return None
    mean = sum(map(sum, groups.values())) / count
    means = {option: statistics.fmean(scores) for option, scores in groups.items()}
    explained = sum(len(scores) * (means[option] - mean) ** 2 for option, scores in groups.items())
    rest = sum((score - means[option]) ** 2 for option, scores in groups.items() for score in scores)
    noise = rest / within
    share = (explained - between * noise) / (explained + rest + noise)
    p_value = float(fdtrc(between, within, explained / between / noise)) if noise > 0 else 0.0
    return Importance(stage=stage + 1, choice=choice, share=max(0.0, share), p_value=p_value)


def effects(records: Sequence[TrialRecord], choice: Choice) -> tuple[Effect, ...]:
    """Stage by stage, options in their order; options that no complete trial has are left out.

    Trials that were stopped early have scores of another kind and are only counted, so an option that is
    stopped often looks better here than it is.
    """
    ran = [t for t in records if t.architecture is not None and t.state in ENDED and t.refused is None]
    return tuple(effect for stage in range(STAGES) for effect in _stage_effects(ran, stage, choice))


def _stage_effects(ran: Sequence[TrialRecord], stage: int, choice: Choice) -> list[Effect]:
    scores: defaultdict[str, list[float]] = defaultdict(list)
    ended: Counter[str] = Counter()
    for record in ran:
        if record.architecture is None:
            continue
        option = _option(record.architecture.stages[stage], choice)
        ended[option] += 1
        if record.state == "complete" and record.score is not None:
            scores[option].append(record.score)
    shown = [option for option in OPTIONS[choice] if scores[option]]
    halves = half_widths([scores[option] for option in shown])
    found = []
    for option, half in zip(shown, halves, strict=True):
        mean = statistics.fmean(scores[option])
        low, high = (None, None) if half is None else (mean - half, mean + half)
        found.append(
            Effect(
                stage=stage + 1,
                choice=choice,
                option=option,
                num_trials=ended[option],
                num_complete=len(scores[option]),
                mean=mean,
                low=low,
                high=high,
            )
        )
    return found


def _option(fusion: StageFusion, choice: Choice) -> str:
    if fusion.is_off:
        return "none"
    return fusion.pattern if choice == "pattern" else str(fusion.attention)


def half_widths(groups: Sequence[Sequence[float]], level: float = 0.95) -> list[float | None]:
    """Half the width of the interval of each group's mean, as in a one-way analysis of variance.

    The spread is pooled over the groups, so that two equal scores do not look like certainty and a single
    score still has an interval: ``t · s / √n`` with ``N − k`` degrees of freedom for N values in k groups.
    """
    freedom = sum(map(len, groups)) - len(groups)
    if freedom < 1:
        return [None] * len(groups)
    squares = sum((value - statistics.fmean(group)) ** 2 for group in groups for value in group)
    reach = float(stdtrit(freedom, 0.5 + level / 2)) * (squares / freedom) ** 0.5
    return [reach / len(group) ** 0.5 for group in groups]
