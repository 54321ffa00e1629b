"""What a confirmation says: one sentence, and the table that it rests on."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from nas.comparison import Difference
from nas.report.table_text import render_table
from nas.statistics import p_text
from nas.study.confirm.judge import Judgement, Row, judged
from nas.study.records import ENDED
from nas.study.store.reader import Study

NOTE = (
    "Means over {seeds} seeds that the search did not use, on {images} test images that it never saw; 95 % intervals. "
    "Differences are paired by seed: Student's t, its variance over seeds (of all networks together where they spread "
    "alike) plus that over images. Intervals and p-values hold for all comparisons of a kind together (Bonferroni)."
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a confirmation has come to."""

    sentence: str
    """Whether the best network is better than the plain one, or how far the confirmation is."""
    landmark: str | None
    """The same of the best landmark."""
    judgement: Judgement | None
    """None before it is done."""
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``; the fields are stable."""
        found = self.judgement
        return {
            "verdict": self.sentence,
            "verdict_landmark": self.landmark,
            "done": found is not None,
            "seeds": list(found.seeds) if found else None,
            "num_test": found.num_test if found else None,
            "winner": found.winner.network.digest if found else None,
            "best_landmark": found.best_landmark.network.label if found and found.best_landmark else None,
            "networks": [_row_dict(row) for row in found.rows] if found else [],
            "failed": list(found.failed) if found else [],
        }


def _row_dict(row: Row) -> dict[str, Any]:
    network = row.network
    return {
        "label": network.label,
        "digest": network.digest,
        "candidate": network.candidate,
        "num_params": network.num_params,
        "macs": network.macs,
        "test": asdict(row.test) | {"scores": network.scores.tolist()},
        "val": asdict(row.val) | {"scores": network.val.tolist()},
        "above_plain": asdict(row.above_plain) if row.above_plain else None,
        "above_landmark": asdict(row.above_landmark) if row.above_landmark else None,
    }


def verdict(study: Study) -> Verdict | None:
    """What the study's confirmation says as far as it has come; None where none was begun."""
    parts = study.confirmations()
    if not parts:
        return None
    found = judged(study)
    if found is None:
        states = Counter(record.state for part in parts for record in part.trials())
        total = sum(part.target for part in parts)
        ended = sum(states[state] for state in ENDED)
        sentence = f"confirmation: {ended} of {total} trainings done"
        if ended == total:
            sentence = f"No verdict: {states['fail']} of {total} trainings failed"
        return Verdict(sentence=sentence, landmark=None, judgement=None, note="")
    return verdict_of(found)


def verdict_of(found: Judgement) -> Verdict:
    """What a finished confirmation says."""
    winner, best = found.winner, found.best_landmark
    against = _sentence(found, winner.above_plain, "the plain network")
    landmark = None
    if best is not None:
        landmark = _sentence(found, winner.above_landmark, f"{best.network.label}, the best landmark")
    return Verdict(
        sentence=against,
        landmark=landmark,
        judgement=found,
        note=NOTE.format(seeds=len(found.seeds), images=found.num_test),
    )


def _sentence(found: Judgement, difference: Difference | None, reference: str) -> str:
    label = found.winner.network.label
    name = label[0].upper() + label[1:]
    if difference is None:
        raise ValueError(f"{label} was not compared with {reference}")
    low, high, p = 100 * difference.low, 100 * difference.high, p_text(difference.p_adjusted)
    evidence = f"[{low:+.2f}, {high:+.2f}], p = {p}, {len(found.seeds)} seeds, {found.num_test} test images"
    points = 100 * difference.value
    if difference.found:
        how = "better" if points > 0 else "worse"
        return f"{name} is {how} than {reference} by {abs(points):.2f} points ({evidence})."
    return (
        f"No difference found at this budget between {label} and {reference}: {points:+.2f} points ({evidence}); "
        f"{_needed(found, difference)}."
    )


def _needed(found: Judgement, difference: Difference) -> str:
    """What it would take to find a difference of the size that was seen."""
    if difference.seeds_needed is not None:
        return f"to see one of this size would take about {difference.seeds_needed} seeds"
    if difference.value == 0:
        return "both have the same mean"
    if difference.p_value == 1:
        return "nothing varied with the seed, so that nothing is known of how many it would take"
    return f"no number of seeds would show one of this size on {found.num_test} test images"


def verdict_text(said: Verdict) -> str:
    """The sentence, the table and the note, for people."""
    found = said.judgement
    if found is None:
        return said.sentence
    lines = [said.sentence, *([said.landmark] if said.landmark else []), "", _table_text(found), ""]
    if found.failed:
        lines.append(f"not compared, a training failed: {', '.join(found.failed)}")
    return "\n".join([*lines, said.note])


def costs(row: Row, plain: Row) -> tuple[str, str]:
    """Parameters and MACs beside the plain network's."""
    params = 100 * (row.network.num_params / plain.network.num_params - 1)
    macs = 100 * (row.network.macs / plain.network.macs - 1)
    return f"{params:+.1f} %", f"{macs:+.1f} %"


def difference_text(difference: Difference | None) -> str:
    """Points with their interval and adjusted p-value."""
    if difference is None:
        return "–"
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.value:+.2f} [{low:+.2f}, {high:+.2f}] p {p_text(difference.p_adjusted)}"


def _table_text(found: Judgement) -> str:
    columns = ("network", "test", "over plain, points", "over best landmark", "parameters", "MACs")
    table = Table(*columns, box=None)
    for row in found.rows:
        table.add_row(
            row.network.label + (" *" if row is found.winner else ""),
            f"{row.test.value:.4f} ±{row.test.high - row.test.value:.4f}",
            difference_text(row.above_plain),
            difference_text(row.above_landmark),
            *costs(row, found.plain),
        )
    return "\n".join([render_table(table), "* of what the search found, the best by validation accuracy"])
