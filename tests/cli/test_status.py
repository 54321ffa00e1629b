"""`nas status`, and watching a study where no screen can be redrawn."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from nas.cli.progress import display
from nas.report.summary import summarise
from nas.study.store.optuna_storage import close_storage, open_storage
from nas.study.store.reader import Study
from nas.study.store.workers import join
from tests.report.synthetic import synthetic

Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return synthetic(f"sqlite:///{tmp_path / 'nas.db'}", 12)


def test_the_plain_text_and_json_agree(nas: Nas, study: Study) -> None:
    code, out, err = nas("status", "made", "--storage", study.url)
    assert (code, err) == (0, "")
    assert out.startswith("study made: 12 of 12 trials · 9 complete · 2 pruned")
    status = json.loads(nas("status", "made", "--storage", study.url, "--json")[1])
    assert (status["ended"], status["done"], status["running"], status["workers_alive"]) == (12, True, [], 0)
    assert status["reasons"] == {"loss-spike": 1, "median": 1, "its worker died 3 times": 1}


def test_watching_in_a_pipe_prints_plain_lines_and_ends(nas: Nas, study: Study) -> None:
    code, out, err = nas("status", "made", "--storage", study.url, "--watch")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].startswith("12 of 12 trials · 9 complete")
    assert lines[1].startswith("study made: 12 of 12 trials")


def test_watching_and_json_do_not_go_together(nas: Nas, study: Study) -> None:
    code, out, err = nas("status", "made", "--storage", study.url, "--watch", "--json")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--json" in err


def test_lines_come_when_something_has_changed(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    summary = summarise(study)
    with display(Console(stderr=True), transient=True) as show:
        for _ in range(3):
            show([summary])
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(("variable", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_no_screen_is_redrawn_in_ci(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    with display(Console(force_terminal=True, force_interactive=None), transient=False) as show:
        show([summarise(study)])
    assert "\x1b[" not in capsys.readouterr().out


def test_a_terminal_shows_a_screen(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    console = Console(force_terminal=True, width=80, height=24)
    with display(console, transient=False) as show:
        show([summarise(study)])
    out = capsys.readouterr().out
    assert "━" in out
    assert "\x1b[" in out


def test_throughput_is_that_of_the_living_workers(study: Study) -> None:
    assert summarise(study).trials_per_minute is None
    storage = open_storage(study.url)
    for name in ("a", "b"):
        join(storage.engine, study.study_id, name, "cpu")
    close_storage(storage)
    assert summarise(study).trials_per_minute is None  # all trials ended before these workers began
    _begin_workers(study, time.time() - 3600 * 24 * 3650)
    summary = summarise(study)
    assert len(summary.workers) == 2
    assert summary.trials_per_minute == pytest.approx(2 * 60 / 4)  # two workers, four seconds a trial


def _begin_workers(study: Study, moment: float) -> None:
    import sqlalchemy as sa

    from nas.study.store import tables

    engine = sa.create_engine(study.url)
    with engine.begin() as connection:
        connection.execute(sa.update(tables.workers).values(started_at=moment))
    engine.dispose()


@pytest.mark.parametrize(("look_s", "rest_s"), [(0.001, 0.5), (0.1, 2.0), (60.0, 5.0)])
def test_looking_takes_little_and_never_waits_long(
    study: Study, monkeypatch: pytest.MonkeyPatch, look_s: float, rest_s: float
) -> None:
    from nas.cli import progress

    rests: list[float] = []
    monkeypatch.setattr(progress.time, "sleep", rests.append)
    monkeypatch.setattr(progress.time, "process_time", lambda: look_s)
    progress._rest(0.0)
    assert rests == [pytest.approx(rest_s)]
