"""The report of a study: everything that it shows as one value, and that value as one self-contained page."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nas.documents import write_atomically
from nas.errors import UserError
from nas.estimate.predictor import Predictor
from nas.report.answer import Answer, answer
from nas.report.candidates import candidate_summary
from nas.report.confirm import Verdict, costs, difference_text, verdict
from nas.report.drawing import PATTERN_TITLES, StageDrawing, stage_drawings
from nas.report.effects import OPTIONS, Choice, Effect, Importance, effects, importances
from nas.report.figures import Figure, cost_figure, curves_figure, front_figure, history_figure, traces_figure
from nas.report.front import Front, Limit, Rung, front, limits, rungs
from nas.report.history import Spending, history, kind_of, spending, survivors
from nas.report.instability import Instability, instability
from nas.report.summary_text import duration_text, value_text
from nas.study.records import TrialRecord
from nas.study.store.reader import Study
from nas.study.store.urls import redact
from nas.training.summary import LabelCheck


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report shows, section by section."""

    name: str
    num_wanted: int
    """Networks that the study is to train."""
    made_at: datetime
    records: tuple[TrialRecord, ...]
    answer: Answer
    drawings: tuple[StageDrawing, ...]
    """Of the best architecture; empty before there is one."""
    verdict: Verdict | None
    """What its confirmation says; None where none was begun."""
    front: Front | None
    """None where there is one objective."""
    rungs: tuple[Rung, ...]
    """Of several objectives; empty where nothing stops them."""
    limits: tuple[Limit, ...]
    columns: tuple[str, ...]
    """Objectives that have a column of their own among the trials."""
    spending: Spending
    survivors: tuple[tuple[int, int], ...]
    """Epochs, and how many trials finished them."""
    importances: tuple[Importance, ...]
    effects: dict[Choice, tuple[Effect, ...]]
    instability: Instability
    figures: dict[str, Figure]
    provenance: tuple[tuple[str, str], ...]
    config_text: str
    """The study file as it was given."""


SECTIONS = (
    ("answer", "Answer"),
    ("search", "Search"),
    ("matters", "What matters"),
    ("broke", "What broke"),
    ("trials", "Trials"),
    ("provenance", "Provenance"),
)
"""The page from top to bottom: each is a template in ``templates/sections`` and a link in the head."""
HAVE_COLUMNS = ("val_accuracy", "params", "macs")
"""Objectives that the table of trials shows in any case."""


def read_report(study: Study) -> Report:
    """Read a study and work out its report."""
    records, settings = study.trials(), study.settings
    goals = settings.goals
    said = verdict(study)
    found = answer(study, records, confirmed=said is not None and said.judgement is not None)
    broken = instability(records)
    choices: tuple[Choice, ...] = tuple(OPTIONS)
    figures = {
        "history": history_figure(history(records, goals), records, goals),
        "curves": curves_figure(records, found.best),
        "traces": traces_figure(broken.traces),
    }
    best = front(records, goals) if goals.several else None
    if best is None:
        figures["cost"] = cost_figure(records)
    else:
        figures |= {f"front-{name}": front_figure(records, goals, name) for name in best.others}
    stops = goals.several and settings.pruner.name == "asha"
    return Report(
        name=study.name,
        num_wanted=study.num_wanted,
        made_at=datetime.now(UTC),
        records=records,
        answer=found,
        drawings=stage_drawings(found.best.architecture) if found.best and found.best.architecture else (),
        verdict=said,
        front=best,
        rungs=rungs(records, settings.pruner.rungs(settings.training.epochs), study.promotions()) if stops else (),
        limits=limits(records, settings.limits),
        columns=tuple(name for name in goals.names if name not in HAVE_COLUMNS),
        spending=spending(records),
        survivors=survivors(records),
        importances=importances(records),
        effects={choice: effects(records, choice) for choice in choices},
        instability=broken,
        figures={name: figure for name, figure in figures.items() if figure["data"]},
        provenance=provenance(study, found.best),
        config_text=study.config_text,
    )


def provenance(study: Study, best: TrialRecord | None) -> tuple[tuple[str, str], ...]:
    """Where the numbers come from, as pairs of a name and a text."""
    data, config = study.data, study.config
    devices = sorted({worker.device for worker in study.workers()})
    packages = study.provenance.get("packages", {})
    counts = f"{data['num_train']:,} train, {data['num_val']:,} validation, {data['num_test']:,} test (never seen)"
    return (
        ("Data", str(config["data"]["source"])),
        ("Images", counts),
        (
            "Image",
            f"{data['in_chans']} × {data['image_size']} × {data['image_size']}, {len(data['class_names'])} classes",
        ),
        ("Classes", _classes(data["class_counts"])),
        *([("Labels", LabelCheck(**labels).text)] if (labels := data.get("labels")) else []),
        ("Data fingerprint", str(data["fingerprint"])),
        ("Search space", str(study.space.get("name") or config["space"])),
        ("Backbone", f"{config['backbone']['name']}, {config['backbone']['stem']} stem"),
        ("Seed", str(config["seed"])),
        *_estimator(study, best),
        ("Created", datetime.fromtimestamp(study.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("Database", redact(study.url)),
        ("Machine", f"{study.provenance.get('platform', '?')}, {study.provenance.get('cpus', '?')} CPUs"),
        ("Devices", ", ".join(devices) or "no worker yet"),
        ("Python", str(study.provenance.get("python", "?"))),
        ("Packages", ", ".join(f"{name} {number}" for name, number in packages.items() if number)),
    )


def _estimator(study: Study, best: TrialRecord | None) -> Iterator[tuple[str, str]]:
    """What the calibration said, and how candidates were scored before the best were trained."""
    if calibration := study.provenance.get("calibration"):
        yield "Calibration", calibration["advice"]
    if candidates := candidate_summary(study):
        yield "Candidates", f"{candidates}; the best of them are trained"
        if candidates.by == "predictor":
            yield from _predicted(study, best)


def _predicted(study: Study, best: TrialRecord | None) -> Iterator[tuple[str, str]]:
    if best and best.architecture:
        added = Predictor(**study.predictor).by_stage(best.architecture)
        points = "; ".join(f"stage {number} {100 * one:+.1f}" for number, one in enumerate(added, 1))
        yield "Predicted of the best", f"points that its fusion adds to the plain network: {points}"


def _classes(counts: Sequence[int]) -> str:
    """How even the classes are, and what a guess scores: a score is read against it."""
    images = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    return f"{images} training images each; always guessing the largest scores {max(counts) / sum(counts):.3f}"


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A value with its interval on a common axis; positions in percent of its width."""

    at: float
    left: float | None
    width: float | None


class Axis:
    """A common scale for strips: wide enough for every value and interval, with some air."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        air = 0.04 * (high - low) or 0.01
        self.low, self.high = low - air, high + air

    def position(self, value: float) -> float:
        """Percent from the left edge."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def strip(self, value: float, low: float | None, high: float | None) -> Strip:
        """The strip of a value; without an interval only its place."""
        if low is None or high is None:
            return Strip(at=self.position(value), left=None, width=None)
        left = self.position(low)
        return Strip(at=self.position(value), left=left, width=round(self.position(high) - left, 2))


def axis_of(rows: Sequence[Any], middle: str) -> Axis:
    """The axis of rows that have ``low``, ``high`` and a value named ``middle``."""
    values = [value for row in rows for value in (row.low, row.high, getattr(row, middle)) if value is not None]
    return Axis(values)


def compact(count: float | None) -> str:
    """``309 k``, ``1.82 M``, ``4.1 G``: three digits."""
    if count is None:
        return "–"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 1000 * size else f"{count / size:,.0f} {unit}"
    return f"{count:g}"


def value_of(value: float, name: str) -> str:
    """An objective's value for people, as a filter."""
    return value_text(name, value)


def render(report: Report) -> str:
    """The page."""
    script, plotly = _template_text("page.js"), _plotly()
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "compact": compact,
        "duration": duration_text,
        "difference": difference_text,
        "value_of": value_of,
    }
    scripts = (plotly, script) if report.figures else (script,)
    return environment.get_template("page.html.j2").render(
        report=report,
        version=version("fusion-nas"),
        style=Markup(_template_text("page.css")),  # noqa: S704 - our own file
        scripts=[Markup(text) for text in scripts],  # noqa: S704 - our own file and plotly's
        script_sources=" ".join(map(_csp_hash, scripts)),
        sections=SECTIONS,
        axis_of=axis_of,
        costs=costs,
        kind_of=kind_of,
        pattern_titles=PATTERN_TITLES,
    )


def write_report(study: Study, path: Path) -> Report:
    """Write the page of a study; `UserError` where the path cannot be written."""
    if path.suffix not in (".html", ".htm"):
        raise UserError(f"{path}: expected a file name that ends in .html")
    report = read_report(study)
    write_atomically(path, render(report))
    return report


def _template_text(name: str) -> str:
    return files("nas.report").joinpath("templates", name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The plotting library that is built into the page."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    """The source expression that lets a page run exactly this script (https://www.w3.org/TR/CSP3/)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
