"""What FusionBench says, as text for people and as values for ``--json``."""

from dataclasses import asdict
from typing import Any

from rich.table import Table

from nas.bench.effects import Additive, by_fused_stages, seed_share
from nas.bench.race import Race, Runner, Setting
from nas.bench.table import Table as BenchTable
from nas.report.effects import half_widths
from nas.report.table_text import render_table

REFERENCE = Setting(sampler="random", pruner="none")
"""What a setting has to beat."""


def shown_budgets(race: Race) -> list[int]:
    """Which budgets a table shows (from 0): a sixth, a third, two thirds and all of the epochs."""
    last = len(race.epochs) - 1
    return sorted({max(0, round((last + 1) * share) - 1) for share in (1 / 6, 1 / 3, 2 / 3, 1)})


def race_header(race: Race) -> tuple[str, ...]:
    """The heads of the columns of `race_rows`."""
    return ("sampler", *(f"{race.epochs[b]} epochs" for b in shown_budgets(race)), "trials", "against random")


def race_rows(race: Race) -> list[tuple[str, ...]]:
    """One row a setting, the least regret first: points of regret, trials, the difference to random search."""
    last = len(race.epochs) - 1
    known = [runner.setting for runner in race.runners]
    against = dict(race.against(REFERENCE, last)) if REFERENCE in known else {}

    def row(runner: Runner) -> tuple[str, ...]:
        difference = against.get(runner.setting)
        text = (
            f"{100 * difference.value:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
            if difference
            else ""
        )
        regrets = (f"{100 * runner.mean[b]:.2f}" for b in shown_budgets(race))
        return (str(runner.setting), *regrets, f"{runner.num_trials:.0f}", text)

    return [row(runner) for runner in sorted(race.runners, key=lambda r: float(r.mean[-1]))]


def race_note(race: Race) -> str:
    """What the figures are, in one line."""
    return (
        f"Mean regret in points of accuracy over {race.replays} replays on {race.num_architectures} architectures, "
        f"judged by the seeds that a replay did not see; {race.epochs_per_training} epochs are a full training. An "
        f"architecture at random: {100 * race.blind:.2f}; the best of all, each trained once: "
        f"{100 * race.exhaustive:.2f}. Against random search at the last budget: simultaneous 95 % intervals."
    )


def race_text(race: Race) -> str:
    """For a terminal."""
    return f"{race_note(race)}\n\n{_rendered(race_header(race), race_rows(race))}"


def race_dict(race: Race) -> dict[str, Any]:
    """Plain values for ``--json``; the fields are stable."""
    last = len(race.epochs) - 1
    known = [runner.setting for runner in race.runners]
    against = dict(race.against(REFERENCE, last)) if REFERENCE in known else {}

    def runner_dict(runner: Runner) -> dict[str, Any]:
        low, high = runner.band()
        difference = against.get(runner.setting)
        return {
            **asdict(runner.setting),
            "regret": runner.mean.tolist(),
            "regret_10": low.tolist(),
            "regret_90": high.tolist(),
            "trials": runner.num_trials,
            "above_random": asdict(difference) if difference else None,
        }

    return {
        "architectures": race.num_architectures,
        "replays": race.replays,
        "epochs": race.epochs.tolist(),
        "epochs_per_training": race.epochs_per_training,
        "regret_of_any": race.blind,
        "regret_of_all_once": race.exhaustive,
        "settings": [runner_dict(runner) for runner in race.runners],
    }


def marginal_rows(model: Additive) -> list[tuple[str, ...]]:
    """One row a pattern: mean accuracy in percent with its interval, a column for each stage."""
    rows: dict[str, list[str]] = {}
    for m in model.marginals():
        half = 100 * (m.high - m.low) / 2
        rows.setdefault(m.pattern, []).append(f"{100 * m.mean:.1f} ± {half:.1f} ({m.num_architectures})")
    return [(pattern, *cells) for pattern, cells in rows.items()]


def component_rows(model: Additive) -> list[tuple[str, ...]]:
    """Stages and pairs of stages by the share that they explain."""
    return [
        (" × ".join(f"stage {s}" for s in part.stages), f"{100 * part.share:.1f} %", f"{part.p_adjusted:.2g}")
        for order in (1, 2)
        for part in model.components(order)
    ]


def fused_rows(table: BenchTable) -> list[tuple[str, ...]]:
    """Mean accuracy in percent by the number of stages with attention."""
    groups = by_fused_stages(table)
    halves = half_widths(list(groups.values()))
    return [
        (str(count), str(len(means)), f"{100 * sum(means) / len(means):.1f}" + (f" ± {100 * half:.1f}" if half else ""))
        for (count, means), half in zip(groups.items(), halves, strict=True)
    ]


def effects_text(table: BenchTable) -> str:
    """For a terminal."""
    model = Additive(table)
    heads = ("pattern", "stage 1", "stage 2", "stage 3", "stage 4")
    return "\n".join(
        (
            f"Mean accuracy in percent over {len(model.means)} architectures × {len(table.seeds)} seeds, adjusted for "
            "the other stages, with 95 % intervals (architectures with it):",
            "",
            _rendered(heads, marginal_rows(model)),
            "",
            f"Share of the variance between architectures (ω²); the seeds make {100 * seed_share(table):.0f} %:",
            "",
            _rendered(("choice", "share", "p"), component_rows(model)),
            "",
            _rendered(("stages with attention", "architectures", "accuracy"), fused_rows(table)),
        )
    )


def effects_dict(table: BenchTable) -> dict[str, Any]:
    """Plain values for ``--json``; the fields are stable."""
    model = Additive(table)
    return {
        "architectures": len(model.means),
        "seeds": len(table.seeds),
        "seed_share": seed_share(table),
        "marginals": [asdict(marginal) for marginal in model.marginals()],
        "components": [asdict(part) for order in (1, 2) for part in model.components(order)],
    }


def _rendered(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    table = Table(*heads, box=None)
    for row in rows:
        table.add_row(*row)
    return render_table(table)
