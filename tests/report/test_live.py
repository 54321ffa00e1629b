"""A running study on one screen: at 80 columns every line fits, and the figures are those of the study."""

import io
from typing import Any

import pytest
from rich.console import Console

from nas.architecture import StageFusion
from nas.report.candidates import CandidateSummary
from nas.report.live import CURVE_WIDTH, screen, sparkline
from nas.report.summary import Summary
from nas.report.summary_text import pace_text
from nas.study.records import TrialRecord, WorkerRecord

from .synthetic import architecture, record

LONG = architecture(*(StageFusion(pattern="p4", attention="cbam", reduction=4, gamma_residual_init=0.3),) * 4)
WORKER = WorkerRecord(worker_id="w", host="h", pid=1, device="cpu", started_at=0, heartbeat_at=0, ended_at=None)
PLAIN = record(0, 0.2, 0.4, 0.9, landmark="plain")
BEST = record(3, 0.3, 0.6, 0.95, architecture=LONG)


def running(number: int, *accuracies: float) -> TrialRecord:
    return record(number, *accuracies, state="running", architecture=LONG)


def summary(**changes: Any) -> Summary:
    fields: dict[str, Any] = {
        "name": "s",
        "url": "sqlite:///studies/nas.db",
        "target": 24,
        "num_val": 360,
        "states": {"complete": 4, "pruned": 3, "running": 2},
        "reasons": {"median": 2, "loss-spike": 1},
        "objectives": {"val_accuracy": "maximize"},
        "best": BEST,
        "front": (),
        "plain": PLAIN,
        "best_fused": BEST,
        "candidates": None,
        "running": (running(7, 0.3, 0.5), running(8)),
        "epochs": 5,
        "workers": (WORKER, WORKER),
        "trials_per_minute": 12.34,
        "left_s": 85.0,
    }
    return Summary(**{**fields, **changes})


def shown(*summaries: Summary, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(screen(summaries, height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def line_with(lines: list[str], start: str) -> list[str]:
    return next(line for line in lines if line.strip().startswith(start)).split()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_every_line_fits(width: int) -> None:
    lines = shown(summary(name="n" * 300), summary(), width=width)
    assert max(map(len, lines)) <= width
    assert any(line.startswith("n" * 20) for line in lines)


def test_the_figures_at_80_columns() -> None:
    lines = shown(summary())
    assert lines[0].startswith("s  ━")
    assert lines[0].endswith("7 of 24 trials")
    assert lines[1] == "2 running · 4 complete · 3 pruned (1 loss-spike, 2 median)"
    assert lines[2] == "2 workers · 12.3 trials/min · about 1 min 25 s left"
    assert line_with(lines, "best ") == ["best", "3", "0.9500", "[0.922,", "0.968]", "+5.00", "▂▅█"]
    assert line_with(lines, "plain") == ["plain", "0", "0.9000", "[0.865,", "0.927]", "▁▃█"]
    assert line_with(lines, "7 ")[:4] == ["7", "2/5", "0.5000", "▂▄"]
    assert line_with(lines, "8 ")[:3] == ["8", "0/5", "p4"]
    assert len(lines) <= 24


def test_the_best_may_be_the_plain_network() -> None:
    lines = shown(summary(best=PLAIN, best_fused=record(3, 0.85, architecture=LONG)))
    assert line_with(lines, "best, plain")[:4] == ["best,", "plain", "0", "0.9000"]
    assert line_with(lines, "fused")[:3] == ["fused", "3", "0.8500"]
    assert "-5.00" in line_with(lines, "fused")


def test_before_anything_has_ended() -> None:
    lines = shown(summary(states={}, reasons={}, best=None, plain=None, best_fused=None, running=(), workers=()))
    assert lines[1:] == ["no trial has begun yet"]


def test_candidates_are_scored_first() -> None:
    scoring = CandidateSummary(by="brief", ended=12, target=200, epochs=2, networks=None)
    assert shown(summary(candidates=scoring))[1] == "12 of 200 candidates scored by brief training (2 epochs)"
    done = CandidateSummary(by="brief", ended=200, target=200, epochs=2, networks=None)
    assert not any("candidates" in line for line in shown(summary(candidates=done)))


def test_many_running_trials_are_counted() -> None:
    lines = shown(summary(running=tuple(running(i, 0.5) for i in range(10, 60))), height=20)
    assert len(lines) <= 20
    num_shown = sum("1/5" in line for line in lines)
    assert lines[-1].split() == ["and", str(50 - num_shown), "more"]


def test_markup_in_names_is_text() -> None:
    assert shown(summary(name="[red]x[/]"))[0].startswith("[red]x[/]  ━")


def test_sparkline() -> None:
    assert sparkline([0.0, 0.5, 1.0], 0.0, 1.0) == "▁▅█"
    assert sparkline([0.5], 0.5, 0.5) == "▁"
    assert sparkline([], 0.0, 1.0) == ""
    assert sparkline([-1.0, 2.0], 0.0, 1.0) == "▁█"
    long = sparkline([i / 99 for i in range(100)], 0.0, 1.0)
    assert len(long) == CURVE_WIDTH
    assert long[-1] == "█"
    assert list(long) == sorted(long)


def test_pace() -> None:
    assert pace_text(summary(workers=())) == ""
    assert pace_text(summary(workers=(WORKER,), trials_per_minute=None, left_s=None)) == "1 worker"


def test_who_scored_the_candidates_is_told_in_number() -> None:
    def text(networks: int | None) -> str:
        return str(CandidateSummary(by="shared", ended=2, target=9, epochs=4, networks=networks))

    assert text(1) == "2 of 9 candidates scored by a shared network (4 epochs)"
    assert text(3) == "2 of 9 candidates scored by the mean of 3 shared networks (4 epochs)"
    assert text(None) == "2 of 9 candidates scored by brief training (4 epochs)"
