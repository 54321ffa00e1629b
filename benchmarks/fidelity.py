"""Which cheap score ranks architectures as full training does: the table and plot of docs/fidelity.md.

    python benchmarks/fidelity.py                    # everything that is missing, then the page
    python benchmarks/fidelity.py --only few-labels-se noisy-cbam --workers 2
    python benchmarks/fidelity.py --report           # the page from what is stored

Results are stored run by run: the same command goes on after any interruption. Finished parts are kept as
benchmarks/results/fidelity/PART.json.gz, which alone the page is written from, and are not run again.
"""

import argparse
import gzip
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.calibrating import Progress, calibrate
from benchmarks.result_file import FileStore
from nas.architecture import Backbone
from nas.backbones import MICRO
from nas.bench.table import ATTENTION, DATA, TRAINING, Table, bench_space, load_table
from nas.documents import write_atomically
from nas.estimate.calibration.judge import conclude, estimates, full_cost, truth_of
from nas.estimate.calibration.runs import Result
from nas.estimate.calibration.task import CalibrationTask, make_task
from nas.estimate.config import CalibrationConfig, EstimateConfig
from nas.estimate.predictor import Predictor
from nas.estimate.ranking import Calibration, Fidelity, against_rest, judge, regret
from nas.report.calibration import calibration_rows
from nas.space.space import SearchSpace
from nas.training.config import DataConfig, TrainingConfig
from nas.training.data import open_data

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "fidelity"
PAGE = ROOT / "docs" / "fidelity.md"
FIGURE = ROOT / "docs" / "fidelity.svg"

BEGIN, END = "<!-- measured: written by benchmarks/fidelity.py -->", "<!-- end of measured -->"


@dataclass(frozen=True)
class Problem:
    """A data set and a full training for it."""

    description: str
    data: DataConfig
    training: TrainingConfig
    attentions: tuple[str, ...] = ("se", "cbam")


PROBLEMS = {
    "few-labels": Problem(
        "200 labelled digits, 8×8",
        DataConfig(source="digits", num_train=200, val_fraction=0.4),
        TrainingConfig(epochs=20, batch_size=32, device="cpu"),
    ),
    "noisy": Problem(
        "700 noisy digits, 16×16",
        DataConfig(source="noisy-digits", num_train=700, image_size=16, val_fraction=0.4),
        TrainingConfig(epochs=14, device="cpu"),
    ),
    "cluttered": Problem(
        "2,048 cluttered digits, 24×24",
        DataConfig(source="cluttered-digits", num_train=2048),
        TrainingConfig(epochs=14, device="cpu"),
    ),
    "cued": Problem(
        "2,048 cued digits, 10×10",
        DataConfig(source="cued-digits", num_train=2048),
        TrainingConfig(epochs=8, device="cpu"),
        attentions=("se",),
    ),
}

BENCH = "fusion-bench"
"""The part whose full trainings are those of `nas.bench`, so that only shared networks are trained."""
PARTS = (*(f"{name}-{attention}" for name, problem in PROBLEMS.items() for attention in problem.attentions), BENCH)
CONFIG = CalibrationConfig(architectures=40, seeds=3, fractions=(0.5,), scales=(0.67,), networks=4)
SEEN = (12, 24)
"""Architectures whose full trainings a predictor has seen."""
DRAWS = 100
"""Of so many architectures, at random."""
SHARED = (0.5, 1, 2)
"""Lengths of shared networks, in full trainings."""


def part_task(part: str) -> CalibrationTask:
    """The calibration of a part, ``PROBLEM-ATTENTION`` or `BENCH`."""
    if part == BENCH:
        return bench_task(load_table())
    name, attention = part.rsplit("-", 1)
    problem = PROBLEMS[name]
    space = SearchSpace.from_dict(
        {"schema": 1, "extends": "patterns", "choices": {"attention": [attention]}}, name=f"patterns-{attention}"
    ).on(backbone=Backbone(name=MICRO, stem="small"))
    epochs = problem.training.epochs
    lengths = {
        "brief_epochs": tuple(max(1, round(epochs * share)) for share in (0.15, 0.35, 0.65)),
        "inherit_epochs": tuple(max(1, round(epochs * share)) for share in (0.15, 0.35)),
        "shared_epochs": tuple(round(epochs * share) for share in SHARED),
    }
    return make_task(
        space,
        problem.data,
        open_data(problem.data).summary,
        problem.training,
        config=CONFIG.model_copy(update=lengths),
    )


def bench_task(table: Table) -> CalibrationTask:
    """Every architecture of the table, by its recipe."""
    config = CalibrationConfig(
        architectures=len(table.architectures),
        seeds=len(table.seeds),
        brief_epochs=(),
        fractions=(),
        shared_epochs=tuple(round(table.num_epochs * share) for share in SHARED),
        networks=CONFIG.networks,
    )
    return CalibrationTask(
        space=bench_space(),
        data=DATA,
        fingerprint=table.meta["fingerprint"],
        training=TRAINING,
        config=config,
        architectures=table.architectures,
        seed=table.seeds[0],
    )


def known(part: str, task: CalibrationTask) -> dict[str, Result]:
    """Results that nobody has to run: the trainings of the table."""
    if part != BENCH:
        return {}
    table = load_table()
    places = [(run, table.rows[run.digest], table.seeds.index(run.seed)) for run in task.truth]
    return {
        run.key: {"accuracy": table.accuracy[row, column].tolist(), "cost_s": float(table.cost_s[row, column])}
        for run, row, column in places
    }


class PartStore(FileStore):
    """What is run for a part, beside what is known."""

    def __init__(self, part: str, task: CalibrationTask) -> None:
        super().__init__(RESULTS / f"{part}.jsonl")
        self.known = known(part, task)

    def results(self, task: str) -> dict[str, Result]:
        """Both."""
        return {**self.known, **super().results(task)}

    def new(self, task: str) -> dict[str, Result]:
        """What is run alone."""
        return super().results(task)


def run(part: str, workers: int) -> None:
    """Do what is missing of a part, then store it compressed."""
    task = part_task(part)
    store = PartStore(part, task)

    def tell(progress: Progress) -> None:
        left = f"{progress.left_s / 60:.0f} min left" if progress.left_s is not None else ""
        print(
            f"{part}: {progress.done}/{progress.total} runs, {progress.share:.0%}, {left}", file=sys.stderr, flush=True
        )

    found = calibrate(task, store, workers=workers, on_progress=tell)
    content = {"task": task.digest, "results": store.new(task.digest)}
    write_atomically(RESULTS / f"{part}.json.gz", gzip.compress(json.dumps(content).encode(), mtime=0))
    print(f"{part}: {found.advice}")


def results_of(part: str, task: CalibrationTask) -> dict[str, Result] | None:
    """Everything that is known of a finished part; None where it is missing."""
    path = RESULTS / f"{part}.json.gz"
    if not path.exists():
        return None
    content = json.loads(gzip.decompress(path.read_bytes()))
    if content["task"] != task.digest:
        print(f"{part}: stored for another recipe; run it again", file=sys.stderr)
        return None
    return {**known(part, task), **content["results"]}


def stored(part: str) -> Calibration | None:
    """What a finished part shows; None where it is missing."""
    task = part_task(part)
    results = results_of(part, task)
    if results is None:
        return None
    if part == BENCH:  # every architecture is trained there: a predictor has nothing left to predict
        return judge(truth_of(task, results), full_cost(task, results), list(estimates(task, results)))
    return conclude(task, results)


def predictor_rows(part: str) -> list[tuple[str, str, str, str]]:
    """What predictors of a few architectures' full trainings are worth on all others.

    Architectures and seeds, share of `candidates` full trainings, correlation (mean, middle 80 %), regret.
    """
    task = part_task(part)
    truth = truth_of(task, results_of(part, task) or {})
    random, candidates = np.random.default_rng(0), EstimateConfig().candidates
    rows = []
    for num, seeds in itertools.product(SEEN, (1, truth.shape[1])):
        found = []
        for _ in range(DRAWS):
            seen, others = np.split(random.permutation(len(truth)), [num])
            columns = random.permutation(truth.shape[1])[:seeds]
            model = Predictor.fit([task.architectures[i] for i in seen], truth[np.ix_(seen, columns)])
            scores = np.array([model.predict(task.architectures[i]) for i in others])
            correlation = against_rest(np.repeat(scores[:, None], truth.shape[1], axis=1), truth[others])
            found.append((float(correlation), regret(scores, truth[others])))
        rho, lost = np.array(found).T
        low, high = np.percentile(rho, (10, 90))
        rows.append(
            (
                f"{num} × {seeds}",
                f"{num * seeds / candidates:.0%}".replace("%", " %"),
                f"{rho.mean():.2f} ({low:.2f} to {high:.2f})",
                f"{lost.mean():.2f}",
            )
        )
    return rows


def write_page() -> None:
    """Put the measured part of the page and the figure in their places."""
    found = {part: calibration for part in PARTS if (calibration := stored(part)) is not None}
    missing = [part for part in PARTS if part not in found]
    text = PAGE.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    sections = "\n".join(section(part, calibration) for part, calibration in found.items())
    state = f"Completed: {', '.join(found) or 'nothing yet'}. Still to run: {', '.join(missing) or 'nothing'}.\n"
    figure = "![Rank correlation against cost](fidelity.svg)\n\n" if found else ""
    write_atomically(PAGE, f"{before}\n\n{state}\n{figure}{sections}\n{after}")
    if found:
        write_atomically(FIGURE, figure_svg(found))


def section(part: str, found: Calibration) -> str:
    """One part as Markdown."""
    spread = found.spread
    head = (
        f"### {title(part)}\n\n"
        f"{found.num_architectures} architectures × {found.num_seeds} seeds: {100 * spread.architectures:.2f} points "
        f"between architectures, {100 * spread.seeds:.2f} between seeds (p = {spread.p_value:.2g}). One full run "
        f"against the mean of the others: {found.ceiling}, regret {found.ceiling_regret:.2f}; "
        f"all once: {found.full_s:.0f} s.\n\n"
    )
    rows = [
        ("estimator", "rank correlation", "without one seed", "regret", "seconds", "of full"),
        ("---", "---", "---:", "---:", "---:", "---:"),
        *calibration_rows(found),
    ]
    predictors = [
        (
            "predictor: architectures × seeds seen",
            f"of {EstimateConfig().candidates} candidates",
            "without one seed, the others",
            "regret",
        ),
        ("---", "---:", "---:", "---:"),
        *predictor_rows(part),
    ]
    return f"{head}{table(rows)}\n{found.advice[:1].upper()}{found.advice[1:]}.\n\n{table(predictors)}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def title(part: str) -> str:
    """What a part is about."""
    if part == BENCH:
        return f"FusionBench: {DATA.num_train} noisy digits, 8×8, {ATTENTION}, the whole space"
    name, attention = part.rsplit("-", 1)
    return f"{PROBLEMS[name].description}, {attention}"


COLOURS = {
    "predictor": "#d6277a",
    "shared": "#0b6e4f",
    "brief": "#b5442e",
    "fraction": "#7a5195",
    "small": "#c99700",
    "inherit": "#2f6db5",
    "full": "#5f6b7a",
}
PANEL_W, PANEL_H, MARGIN, LEGEND = 320, 220, 46, 84
COSTS = (0.005, 1.0)
CORRELATIONS = (-0.5, 1.0)


def figure_svg(found: Mapping[str, Calibration]) -> str:
    """One panel a part: correlation with its interval against the share of a full search's cost."""
    columns = 2
    rows = -(-len(found) // columns)
    width, height = columns * (PANEL_W + MARGIN) + MARGIN, rows * (PANEL_H + 2 * MARGIN) + MARGIN
    panels = [
        f'<g transform="translate({MARGIN + (i % columns) * (PANEL_W + MARGIN)} '
        f'{MARGIN + (i // columns) * (PANEL_H + 2 * MARGIN)})">{panel_svg(part, calibration)}</g>'
        for i, (part, calibration) in enumerate(found.items())
    ]
    legend = "".join(
        f'<circle cx="{MARGIN + 8 + LEGEND * i}" cy="{height - 18}" r="5" fill="{colour}"/>'
        f'<text x="{MARGIN + 18 + LEGEND * i}" y="{height - 14}">{kind}</text>'
        for i, (kind, colour) in enumerate(COLOURS.items())
    )
    x = MARGIN + LEGEND * len(COLOURS)
    legend += (
        f'<line x1="{x}" x2="{x + 26}" y1="{height - 18}" y2="{height - 18}" stroke="#222" stroke-dasharray="5 4"/>'
        f'<text x="{x + 32}" y="{height - 14}">one full run</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(panels)}{legend}</svg>\n'
    )


def panel_svg(part: str, found: Calibration) -> str:
    """The points of one part, its ceiling and its axes."""
    ceiling = height_of(found.ceiling.value)
    axes = (
        f'<rect width="{PANEL_W}" height="{PANEL_H}" fill="none" stroke="#999"/><text y="-8">{part}</text>',
        f'<line x2="{PANEL_W}" y1="{ceiling:.1f}" y2="{ceiling:.1f}" stroke="#222" stroke-dasharray="5 4"/>',
        *(
            f'<text x="{place_of(share):.1f}" y="{PANEL_H + 16}" text-anchor="middle">{share:.0%}</text>'
            for share in (0.01, 0.03, 0.1, 0.3, 1.0)
        ),
        *(
            f'<text x="-6" y="{height_of(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
            for value in (-0.5, 0.0, 0.5, 1.0)
        ),
    )
    return "".join((*axes, *(point_svg(fidelity) for fidelity in found.fidelities)))


def point_svg(fidelity: Fidelity) -> str:
    """One estimator at one budget; its name is the tooltip."""
    colour = COLOURS[fidelity.name.partition(" ")[0].rstrip(",")]
    x, rho = place_of(fidelity.cost_share), fidelity.correlation
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{height_of(rho.low):.1f}" y2="{height_of(rho.high):.1f}" '
        f'stroke="{colour}" stroke-opacity="0.35"/><circle cx="{x:.1f}" cy="{height_of(rho.value):.1f}" r="4" '
        f'fill="{colour}"><title>{fidelity.name}: {rho}</title></circle>'
    )


def place_of(share: float) -> float:
    """Horizontal place of a cost share, on a logarithmic scale."""
    low, high = map(math.log, COSTS)
    return PANEL_W * (math.log(min(max(share, COSTS[0]), COSTS[1])) - low) / (high - low)


def height_of(value: float) -> float:
    """Vertical place of a correlation."""
    low, high = CORRELATIONS
    return PANEL_H * (high - min(max(value, low), high)) / (high - low)


def main() -> None:
    """Run what is asked for, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="only write the page from what is stored")
    arguments = parser.parse_args()
    if not arguments.report:
        for part in arguments.only:
            if stored(part) is None:
                run(part, arguments.workers)
    write_page()


if __name__ == "__main__":
    main()
