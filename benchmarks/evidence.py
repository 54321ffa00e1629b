"""Write the measured parts of docs/evidence.md and its figure from what is stored.

    python -m benchmarks.evidence                  # the page from the table, the stored race and the rules
    python -m benchmarks.evidence --race 200       # replay the samplers first, until there are 200 of each

The table comes from benchmarks/fusion_bench.py, the paired trainings from benchmarks/rules.py. The race is kept in
benchmarks/results/race.npz, with the architectures that were in the table then.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from benchmarks import rules
from benchmarks.finalist import part_finalist
from benchmarks.markdown import fill, markdown
from benchmarks.result_file import FileStore
from nas.bench.effects import Additive, Contrast, Place, seed_share, spoken
from nas.bench.race import Race, Runner, Setting, race, stopped_early
from nas.bench.table import Table, bench_space, load_table
from nas.documents import write_atomically
from nas.errors import UserError
from nas.report.bench import (
    component_rows,
    fused_rows,
    marginal_rows,
    race_header,
    race_note,
    race_rows,
)
from nas.report.calibration import calibration_rows
from nas.study.search.importance import fanova

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURE = DOCS / "evidence.md", DOCS / "samplers.svg"
RACE = Path(__file__).parent / "results" / "race.npz"
RACE_TRAININGS = 16
SLICE = 6
"""Replays of each setting between two savings; a multiple of the seeds."""
FEW = 100
"""Fewer architectures than these are too small a part of 625 to choose a default by."""

COLOURS = {"random": "#5f6b7a", "grid": "#c99700", "tpe": "#2f6db5", "nsga2": "#7a5195", "evolution": "#0b6e4f"}
PANEL_W, PANEL_H, MARGIN = 250, 220, 46


# The race, kept.


def scores_digest(table: Table, architectures: Sequence[str]) -> str:
    """First 16 hex digits of the SHA-256 of the scores of some architectures, which a race is run on."""
    rows = [table.rows[digest] for digest in architectures]
    return hashlib.sha256(table.correct[rows].tobytes()).hexdigest()[:16]


def keep_race(found: Race, table: Table) -> None:
    """Store a race beside the architectures that it was run on."""
    raced = list(table.complete().rows)
    head = {
        "scores": scores_digest(table, raced),
        "num_architectures": found.num_architectures,
        "epochs_per_training": found.epochs_per_training,
        "replays": found.replays,
        "blind": found.blind,
        "exhaustive": found.exhaustive,
        "runners": [{**asdict(r.setting), "num_trials": r.num_trials} for r in found.runners],
    }
    regret = np.stack([runner.regret for runner in found.runners]).astype(np.float32)
    np.savez_compressed(
        RACE, head=np.array(json.dumps(head)), raced=np.array(raced), epochs=found.epochs, regret=regret
    )


def kept_race(table: Table) -> Race | None:
    """The stored race; None where it was run on other scores than the table's."""
    if not RACE.exists():
        return None
    with np.load(RACE, allow_pickle=False) as file:
        head, epochs, regret = json.loads(str(file["head"])), file["epochs"], file["regret"].astype(np.float64)
        raced = [str(digest) for digest in file["raced"]]
    if head["scores"] != scores_digest(table, raced):
        return None
    runners = tuple(
        Runner(setting=Setting(sampler=r["sampler"], pruner=r["pruner"]), regret=values, num_trials=r["num_trials"])
        for r, values in zip(head["runners"], regret, strict=True)
    )
    fields = {key: head[key] for key in ("num_architectures", "epochs_per_training", "replays", "blind", "exhaustive")}
    return Race(epochs=epochs, runners=runners, **fields)


def race_on(table: Table, replays: int, workers: int) -> None:
    """Replay until there are so many; what is stored for this table goes on, a slice at a time."""
    found = kept_race(table)
    if found is not None and found.num_architectures < len(table.complete().architectures):
        found = None
    while found is None or found.replays < replays:
        done = found.replays if found else 0
        more = race(
            table, replays=min(SLICE, replays - done), first=done, full_trainings=RACE_TRAININGS, workers=workers
        )
        found = joined(found, more) if found else more
        keep_race(found, table)
        print(f"{found.replays}/{replays} replays", file=sys.stderr, flush=True)


def joined(before: Race, more: Race) -> Race:
    """The replays of both, of the same settings on the same table."""
    runners = tuple(
        Runner(
            setting=a.setting,
            regret=np.concatenate([a.regret, b.regret]),
            num_trials=(a.num_trials * before.replays + b.num_trials * more.replays) / (before.replays + more.replays),
        )
        for a, b in zip(before.runners, more.runners, strict=True)
    )
    return replace(before, replays=before.replays + more.replays, runners=runners)


# The parts of the page.


def part_table(table: Table) -> str:
    """How far the table is, and how much its architectures differ."""
    whole = table.complete()
    found = stopped_early(table).spread
    hours = float(np.nansum(table.cost_s)) / 3600
    makers = {
        f"{m['packages']['torch']} (torch), {m['packages']['timm']} (timm), Python {m['python']}, {m['cpus']} CPUs"
        for m in table.meta["makers"]
    }
    complete = len(whole.architectures) == len(table.architectures)
    sample = "all of the space" if complete else "the five uniform networks and a random sample of the others"
    return (
        f"Made so far: **{len(whole.architectures)} of {len(table.architectures)} architectures** with all "
        f"{len(table.seeds)} seeds ({int(table.made.sum()):,} trainings of {table.num_epochs} epochs, {hours:.2f} CPU "
        f"hours): {sample}. Final accuracy: "
        f"{100 * found.architectures:.1f} points between architectures, {100 * found.seeds:.1f} between seeds "
        f"(p = {found.p_value:.2g}); one run tells {100 * found.reliability:.0f} % of what it shows. Versions: "
        f"{'; '.join(sorted(makers))}."
    )


def part_race(found: Race | None) -> str:
    """The table of the race and its answer."""
    if found is None:
        return "Not measured on this table: `python -m benchmarks.evidence --race 200`."
    lines = [
        "![Regret against epochs spent](samplers.svg)",
        "",
        race_note(found),
        "",
        *markdown(race_header(found), race_rows(found)),
        "",
        f"**Answer.** {race_answer(found)}",
    ]
    return "\n".join(lines)


def race_answer(found: Race) -> str:
    """Which settings beat random search, in sentences."""
    reference = Setting(sampler="random", pruner="none")
    against = found.against(reference, len(found.epochs) - 1)
    better = sorted((d.value, str(setting)) for setting, d in against if d.found and d.value < 0)
    worse = sorted(str(setting) for setting, d in against if d.found and d.value > 0)
    parts = [
        f"Better than random search after {found.epochs[-1]} epochs (p < 0.05 after Bonferroni's correction): "
        + (", ".join(f"{name} ({100 * value:+.2f})" for value, name in better) if better else "nothing")
        + "; worse: "
        + (", ".join(worse) or "nothing")
        + "."
    ]
    if found.num_architectures < FEW:
        parts.append(
            f"With {found.num_architectures} architectures this is no basis for a default: a sampler that asks for one "
            "outside them, which is nearly always, gets another instead."
        )
    return " ".join(parts)


def part_estimators(table: Table) -> str:
    """How the score after k epochs ranks."""
    found = stopped_early(table)
    heads = ("score", "rank correlation with the other seeds", "regret", "of full")
    rows = [(name, rho, regret, share) for name, rho, _, regret, _, share in calibration_rows(found)]
    return "\n".join(
        (
            f"One full run ranks as the mean of the other two seeds does by {found.ceiling}, regret "
            f"{found.ceiling_regret:.2f} (of what a random choice lacks).",
            "",
            *markdown(heads, rows),
        )
    )


def part_early(table: Table, model: Additive) -> str:
    """P2 and P4 in early stages against late ones."""
    wanted: dict[str, dict[Place, float]] = {}
    for pattern in ("p2", "p4"):
        wanted[f"{pattern} in stages 1 and 2"] = {(1, pattern): 0.5, (2, pattern): 0.5}
        wanted[f"{pattern} in stages 3 and 4"] = {(3, pattern): 0.5, (4, pattern): 0.5}
        wanted[f"{pattern}: early less late"] = {
            (1, pattern): 0.5,
            (2, pattern): 0.5,
            (3, pattern): -0.5,
            (4, pattern): -0.5,
        }
    found = {c.name: c for c in model.contrasts(wanted)}
    answers = " ".join(
        f"{pattern.upper()}: "
        + said(
            found[f"{pattern}: early less late"], "supported here", "the opposite here: it costs more in late stages"
        )
        for pattern in ("p2", "p4")
    )
    return "\n".join(
        (
            *contrast_lines(tuple(found.values()), "mean effect of one stage against `none`"),
            "",
            f"Guard: {spoken_text(table)}.",
            "",
            f"**Answer.** {answers}",
        )
    )


def part_everywhere(table: Table, model: Additive) -> str:
    """A pattern in all stages against two of them."""
    early, late = (1, 2), (3, 4)
    wanted: dict[str, dict[Place, float]] = {}
    for pattern in ("p1", "p2", "p3", "p4"):
        wanted[f"{pattern} everywhere, against plain"] = {(s, pattern): 1.0 for s in (*early, *late)}
        wanted[f"{pattern} everywhere, against stages 1 and 2 only"] = {(s, pattern): 1.0 for s in late}
        wanted[f"{pattern} everywhere, against stages 3 and 4 only"] = {(s, pattern): 1.0 for s in early}
    found = {c.name: c for c in model.contrasts(wanted)}
    answers = " ".join(
        f"{pattern.upper()}: "
        + said(
            max(
                (found[f"{pattern} everywhere, against stages {s} only"] for s in ("1 and 2", "3 and 4")),
                key=lambda contrast: abs(contrast.value),
            ),
            "supported here",
            "the opposite here: better everywhere",
        )
        for pattern in ("p1", "p2", "p3", "p4")
    )
    return "\n".join(
        (
            *contrast_lines(tuple(found.values()), "effect, summed over stages"),
            "",
            *markdown(("stages with attention", "architectures", "mean accuracy in percent"), fused_rows(table)),
            "",
            f"**Answer.** {answers}",
        )
    )


def said(contrast: Contrast, worse: str, better: str) -> str:
    """A plain answer from one contrast."""
    figure = f"({100 * contrast.value:+.1f} points [{100 * contrast.low:+.1f}, {100 * contrast.high:+.1f}])"
    if not contrast.found:
        return f"not supported here: no difference found {figure}."
    return f"{worse if contrast.value < 0 else better} {figure}."


def spoken_text(table: Table) -> str:
    """Where signals spoke about a stage, most often first."""
    found = []
    for signal in table.meta["signals"]:
        shares = spoken(table, signal)
        for stage, pattern in np.argwhere(np.nan_to_num(shares) > 0):
            name = ("none", "p1", "p2", "p3", "p4")[pattern]
            found.append(
                (
                    shares[stage, pattern],
                    f"`{signal}` in {shares[stage, pattern]:.0%} of the runs with {name} in stage {stage + 1}",
                )
            )
    return "; ".join(text for _, text in sorted(found, reverse=True)[:6]) or "no signal spoke about a stage"


def part_rule(name: str) -> str:
    """The variants of a paired experiment, and its answer."""
    found = rules.outcomes(name, FileStore(rules.RESULTS).results(rules.recipe()))
    if not found:
        return "**Answer.** Not measured: `python -m benchmarks.rules` is to be finished."
    heads = ("variant", "mean accuracy", "against the first", "p", "runs in which the guard spoke")
    rows = []
    for outcome in found:
        d = outcome.difference
        rows.append(
            (
                outcome.variant.name,
                f"{100 * outcome.accuracy.value:.1f}",
                f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]" if d else "",
                f"{d.p_adjusted:.2g}" if d else "",
                f"{outcome.signals['any']:.0%}",
            )
        )
    different = [o for o in found if o.difference and o.difference.found]
    answer = (
        "; ".join(f"{o.variant.name}: {100 * o.difference.value:+.1f} points" for o in different if o.difference)
        if different
        else "not supported here: no difference found"
    )
    return "\n".join((*markdown(heads, rows), "", f"**Answer.** {answer[:1].upper()}{answer[1:]}."))


def part_importance(table: Table, model: Additive) -> str:
    """Shares by the F test and by fANOVA, and the marginal means."""
    scores = dict(zip(model.table.architectures, model.means.tolist(), strict=True))
    forest = fanova(bench_space(), scores)
    rows = [
        (
            choice,
            share,
            p,
            f"{100 * forest[choice.replace('stage ', 'stage') + '.pattern']:.0f} %" if "×" not in choice else "",
        )
        for choice, share, p in component_rows(model)
    ]
    return "\n".join(
        (
            f"The seeds make {100 * seed_share(table):.0f} % of the variance between the architectures' means.",
            "",
            *markdown(("choice", "share of the variance (ω²)", "p (Holm)", "fANOVA, Optuna"), rows),
            "",
            "Mean accuracy in percent with one pattern in one stage, the others held equal, ± 95 % (architectures):",
            "",
            *markdown(("pattern", "stage 1", "stage 2", "stage 3", "stage 4"), marginal_rows(model)),
        )
    )


def contrast_lines(contrasts: Sequence[Contrast], what: str) -> list[str]:
    """Contrasts as a table."""
    rows = [
        (c.name, f"{100 * c.value:+.1f} [{100 * c.low:+.1f}, {100 * c.high:+.1f}]", f"{c.p_adjusted:.2g}")
        for c in contrasts
    ]
    return markdown(("", f"points: {what}", "p (Bonferroni)"), rows)


# The figure.


def figure_svg(found: Race) -> str:
    """One panel for each way of stopping: mean regret with its 95 % interval against epochs."""
    pruners = list(dict.fromkeys(runner.setting.pruner for runner in found.runners))
    top = 100 * found.blind
    width, height = len(pruners) * (PANEL_W + MARGIN) + MARGIN, PANEL_H + 2 * MARGIN + 24
    panels = [
        f'<g transform="translate({MARGIN + i * (PANEL_W + MARGIN)} {MARGIN})">{"".join(panel(found, pruner, top))}</g>'
        for i, pruner in enumerate(pruners)
    ]
    legend = "".join(
        f'<rect x="{MARGIN + 110 * i}" y="{height - 22}" width="14" height="4" fill="{colour}"/>'
        f'<text x="{MARGIN + 20 + 110 * i}" y="{height - 15}">{name}</text>'
        for i, (name, colour) in enumerate(COLOURS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(panels)}{legend}</svg>\n'
    )


def panel(found: Race, pruner: str, top: float) -> Iterator[str]:
    """The samplers with one way of stopping, and the axes."""
    last = float(found.epochs[-1])

    def x(epochs: float) -> float:
        return PANEL_W * epochs / last

    def y(regret: float) -> float:
        return PANEL_H * (1 - min(100 * regret, top) / top)

    title = "no stopping" if pruner == "none" else pruner
    yield f'<rect width="{PANEL_W}" height="{PANEL_H}" fill="none" stroke="#999"/><text y="-8">{title}</text>'
    for share in (0, 0.25, 0.5, 0.75, 1):
        yield f'<text x="-6" y="{PANEL_H * (1 - share) + 4:.1f}" text-anchor="end">{top * share:.1f}</text>'
        yield f'<text x="{PANEL_W * share:.1f}" y="{PANEL_H + 16}" text-anchor="middle">{last * share:.0f}</text>'
    yield f'<text x="{PANEL_W / 2}" y="{PANEL_H + 32}" text-anchor="middle">epochs spent (regret in points)</text>'
    floor = y(found.exhaustive)
    yield f'<line x2="{PANEL_W}" y1="{floor:.1f}" y2="{floor:.1f}" stroke="#222" stroke-dasharray="5 4"/>'
    for runner in found.runners:
        if runner.setting.pruner != pruner:
            continue
        colour = COLOURS[runner.setting.sampler]
        half = 1.96 * runner.regret.std(0, ddof=1) / np.sqrt(found.replays)
        places = list(zip(found.epochs, runner.mean, half, strict=True))
        upper = [f"{x(e):.1f},{y(m + h):.1f}" for e, m, h in places]
        lower = [f"{x(e):.1f},{y(m - h):.1f}" for e, m, h in reversed(places)]
        line = " ".join(f"{x(e):.1f},{y(m):.1f}" for e, m, _ in places)
        yield f'<polygon points="{" ".join((*upper, *lower))}" fill="{colour}" fill-opacity="0.18"/>'
        yield f'<polyline points="{line}" fill="none" stroke="{colour}"><title>{runner.setting}</title></polyline>'


# The page.


def main() -> None:
    """Write page and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--race", type=int, metavar="REPLAYS", help="replay the samplers until there are so many of each"
    )
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    table = load_table()
    if arguments.race:
        race_on(table, arguments.race, arguments.workers)
    found = kept_race(table)
    try:
        model = Additive(table)
    except UserError as error:
        raise SystemExit(str(error)) from None
    parts = {
        "table": part_table(table),
        "race": part_race(found),
        "estimators": part_estimators(table),
        "finalist": part_finalist(table),
        "early": part_early(table, model),
        "gamma": part_rule("gamma"),
        "gates": part_rule("gates"),
        "stress": part_rule("stress"),
        "reduction": part_rule("reduction"),
        "everywhere": part_everywhere(table, model),
        "importance": part_importance(table, model),
    }
    write_atomically(PAGE, fill(PAGE.read_text(encoding="utf-8"), parts))
    if found is not None:
        write_atomically(FIGURE, figure_svg(found))


if __name__ == "__main__":
    main()
