"""What commands print and write: no secret of the database's URL, and only hints that survive a shell."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import typer

from nas.cli import app
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.store.trials import Ledger
from nas.study.store.urls import sqlite_url
from tests.postgres import Server
from tests.study.conftest import SUMMARY

from .conftest import write_study

Nas = Callable[..., tuple[int, str, str]]
SECRETS = "password=hunter3&sslpassword=hunter4&passfile=/hunter5"
NASTY = "it's $HOME; #1 *"
COMMANDS = {
    name: [p.opts[-1] for p in command.params if p.param_type_name == "option"]
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    if any("--storage" in p.opts for p in command.params)
}
MORE = {"export": ["-o", "x.yaml"], "backup": ["-o", "x.db"], "delete": ["--yes"], "worker": ["--devices", "cpu"]}
READING = ("status", "studies", "trials", "instability", "report", "recover", "delete")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("user", ["me:hunter2", "me:hunter@hunter2"])
def test_a_server_that_is_away(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, user: str
) -> None:
    if command in ("search", "calibrate"):
        monkeypatch.setattr("nas.study.launch.processes.warm_up", lambda: None)
    monkeypatch.chdir(tmp_path)
    given = {"search": [write_study(tmp_path)], "calibrate": [write_study(tmp_path)], "studies": [], "status": []}
    url = f"postgresql://{user}@127.0.0.1:1/db?{SECRETS}"
    code, out, err = nas(command, *given.get(command, ["s"]), *MORE.get(command, []), "--storage", url)
    assert code in (1, 2), (out, err)
    assert "hunter" not in out + err
    assert len(err.splitlines()) <= 2, err


def test_a_server_that_answers(
    nas: Nas, postgres_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"{postgres_server.url()}?{SECRETS}"
    create_study(StudyConfig(name="made", space="patterns"), "", url, lambda _: SUMMARY)
    for command in READING:
        more = ["--yes"] if command == "delete" else []
        name = [] if command == "studies" else ["made"]
        code, out, err = nas(command, *name, *more, "--storage", url)
        assert code == 0, (command, err)
        assert "hunter" not in out + err, command
    assert (tmp_path / "report.html").is_file()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or "hunter" not in path.read_text(), path


def hints(text: str) -> list[str]:
    """Command lines of `nas` in a text: from the word to the end of its line."""
    return re.findall(r"\bnas (?:export|resume|confirm|recover|trials|delete) .*", text)


def test_hints_of_commands_are_lines_that_the_command_line_takes(nas: Nas, tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "a b?" / "it's.db")
    study = create_study(StudyConfig(name=NASTY, space="patterns"), "", url, lambda _: SUMMARY)
    storage = optuna.storages.RDBStorage(url)
    Ledger(storage.engine, study.study_id, "gone").take_waiting()
    create_study(StudyConfig(name=f"{NASTY}/candidates", space="patterns"), "", url, lambda _: SUMMARY)
    said = [
        nas("status", NASTY, "--storage", url),
        nas("resume", f"{NASTY}/candidates", "--storage", url),
        nas("delete", f"{NASTY}/candidates", "--yes", "--storage", url),
        nas("export", NASTY, "--trial", "confirmed", "-o", tmp_path / "x.yaml", "--storage", url),
    ]
    optuna.delete_study(study_name=NASTY, storage=storage)
    storage.engine.dispose()
    said.append(nas("status", NASTY, "--storage", url))
    found = [hint for _, out, err in said for hint in hints(out + err)]
    assert [shlex.split(hint)[1] for hint in found] == ["recover", "resume", "delete", "confirm", "delete"]
    for hint in found:
        assert shlex.split(hint)[2:] == [NASTY, "--storage", url]
