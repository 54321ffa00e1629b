"""Database URLs: one place makes them, reads them and hides what is secret in them."""

from pathlib import Path

import pytest

from nas.errors import UserError
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.store.errors import explain
from nas.study.store.optuna_storage import close_storage, open_storage
from nas.study.store.reader import open_study
from nas.study.store.urls import absolute_url, redact, sqlite_path, sqlite_url

from .conftest import SUMMARY

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{SECRET}@host/db", "postgresql://me:***@host/db"),
        (f"postgresql://me@host/db?password={SECRET}", "postgresql://me@host/db?password=***"),
        (
            f"postgresql://me@host/db?sslmode=require&sslpassword={SECRET}&passfile=/{SECRET}",
            "postgresql://me@host/db?sslmode=require&sslpassword=***&passfile=***",
        ),
        (f"postgresql:///db?host=a&host=b&PASSWORD={SECRET}", "postgresql:///db?host=a&host=b&PASSWORD=***"),
        (f"postgresql://h/db?user=u;password={SECRET}", "postgresql://h/db?user=***"),
        (f"postgresql://me:a@{SECRET}@host/db", "the given storage URL"),
        (f"postgresql://me:{SECRET}@host:port/db", "the given storage URL"),
        (f"host=h password={SECRET}", "the given storage URL"),
        ("sqlite:///studies/nas.db", "sqlite:///studies/nas.db"),
    ],
)
def test_what_is_secret_is_hidden(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_a_drivers_own_words_are_shown_without_secrets() -> None:
    url = f"postgresql://me:{SECRET}@host/db?options=-c {SECRET}3"
    error = explain(url, ValueError(f'invalid value "-c {SECRET}3" beside {SECRET}'))
    assert SECRET not in str(error)
    assert 'invalid value "***" beside ***' in str(error)


@pytest.mark.parametrize("name", ["a?b.db", "#1.db", "50%41.db", "{x}.db", "ü b.db", "it's.db", "a&b=c.db", "a\\b.db"])
def test_any_path_is_the_path_of_its_url(tmp_path: Path, name: str) -> None:
    url = sqlite_url(tmp_path / name)
    assert sqlite_path(url) == tmp_path / name
    assert absolute_url(url) == url
    create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY)
    close_storage(open_storage(url))
    assert len(open_study(url, "s").trials()) == 6
    assert {path.name for path in tmp_path.iterdir()} <= {name, f"{name}-lock", f"{name}-wal", f"{name}-shm"}


def test_the_home_folder_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    study = create_study(StudyConfig(name="s", space="patterns"), "", "sqlite:///~/x/nas.db", lambda _: SUMMARY)
    close_storage(open_storage(study.url))
    assert (tmp_path / "home" / "x" / "nas.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert sqlite_path("sqlite:///./~/nas.db") == Path("~/nas.db"), "a folder of that name is reached so"
    with pytest.raises(UserError, match="there is no such home folder; expected a whole path"):
        sqlite_path("sqlite:///~nobody-is-called-so/nas.db")


def test_options_of_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected sqlite:///PATH without options; in a path write %3F for a \?"):
        open_study(f"sqlite:///{tmp_path}/a folder?/nas.db", "s")
