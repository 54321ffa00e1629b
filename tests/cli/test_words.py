"""One word, one meaning, over all commands; what exists is overwritten where that is asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from nas.cli import app
from nas.study.store.reader import open_study
from tests.report.synthetic import synthetic

from .test_errors import refused

Nas = Callable[..., tuple[int, str, str]]
OPTIONS = [
    (name, option)
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    for option in command.params
    if option.param_type_name == "option" and not option.hidden
]


def test_an_option_means_the_same_in_every_command() -> None:
    meanings: dict[str, set[str]] = {}
    for _, option in OPTIONS:
        meanings.setdefault(option.opts[-1], set()).add(option.help)
    assert {word: texts for word, texts in meanings.items() if len(texts) > 1} == {}


def test_a_command_that_writes_where_it_is_told_asks_for_force() -> None:
    writing = {name for name, option in OPTIONS if "--output" in option.opts}
    forced = {name for name, option in OPTIONS if "--force" in option.opts}
    assert writing == {"init", "export", "report", "backup"}
    assert forced == writing | {"search", "calibrate"}  # which may add tables to another program's database


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    synthetic(url, 12)
    return url


@pytest.mark.parametrize(
    ("command", "name"), [("report", "x.html"), ("export", "x.yaml"), ("export", "x.json"), ("backup", "x.db")]
)
def test_what_exists_is_overwritten_by_force(nas: Nas, tmp_path: Path, url: str, command: str, name: str) -> None:
    path = tmp_path / name
    path.write_text("years of work")
    write = (command, "made", "--storage", url, "-o", path)
    expected = f"{path}: exists already; choose another name with -o, or overwrite it with --force"
    assert expected in refused(nas, *write)
    assert path.read_text() == "years of work"
    assert nas(*write, "--force")[0] == 0
    assert path.read_bytes() != b"years of work"


def test_folders_that_hold_something(nas: Nas, tmp_path: Path, url: str) -> None:
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "config.json").write_text("{}")
    assert "exists already" in refused(
        nas, "export", "made", "--storage", url, "--format", "timm", "-o", tmp_path / "timm"
    )
    front = ("export", "made", "--storage", url, "--trial", "front", "-o", tmp_path / "front")
    assert nas(*front)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "front").iterdir()}
    assert "exists already" in refused(nas, *front)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "front").iterdir()} == before


@pytest.mark.parametrize("name", ["nas.db", "used.db"])
def test_no_force_writes_over_a_database_in_use(nas: Nas, tmp_path: Path, url: str, name: str) -> None:
    (tmp_path / "used.db").write_text("x")
    (tmp_path / "used.db-wal").write_text("x")
    line = refused(nas, "backup", "made", "--storage", url, "-o", tmp_path / name, "--force")
    assert f"{name}: is a folder, or a database in use" in line
    assert len(open_study(url, "made").trials()) == 12


def test_trials_is_the_size_of_the_study(nas: Nas, url: str) -> None:
    line = refused(nas, "resume", "made", "--storage", url, "--trials", 5)
    assert "--trials: expected the size of the whole study, which has 12 trials already, got 5; 17 would add 5" in line
    assert open_study(url, "made").target == 12


def test_one_device_is_not_several(nas: Nas, url: str) -> None:
    for old_or_new in ("--devices", "--device"):
        line = refused(nas, "worker", "made", "--storage", url, old_or_new, "0,1")
        assert "--devices: expected one device here, got '0,1'" in line
        assert "--devices: expected auto" in refused(nas, "worker", "made", "--storage", url, old_or_new, "tpu")


def test_deleting_asks_and_lists(nas: Nas, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "then say --yes" in refused(nas, "delete", "made", "--storage", url)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: (_ for _ in ()).throw(typer.Abort()))
    code, out, err = nas("delete", "made", "--storage", url)
    assert (code, out) == (130, "")
    assert err.startswith("study 'made': 12 of 12 trials")
    assert "made" in nas("studies", "--storage", url)[1]
    code, out, err = nas("delete", "made", "--storage", url, "--yes")
    assert (code, err) == (0, "")
    assert out.startswith("removed:\nstudy 'made'")
    assert "made" not in nas("studies", "--storage", url)[1]
