"""The dashboard reads a study and cannot change it."""

import json
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

import pytest
import sqlalchemy as sa

from nas.study.config import StudyConfig
from nas.study.dashboard import dashboard_app, dashboard_server
from nas.study.launch.create import create_study
from nas.study.store.engine import open_engine
from nas.study.store.reader import Study
from nas.study.store.urls import sqlite_url
from tests.study.conftest import SUMMARY

Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=["sqlite", "postgresql"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Study:
    url = sqlite_url(tmp_path / "a folder?" / "nas #1 {50%41}.db")
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_server").url()
    return create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY)


def test_it_shows_the_study(study: Study) -> None:
    pytest.importorskip("optuna_dashboard")
    with dashboard_server(study, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            with urlopen(f"http://127.0.0.1:{server.server_port}/api/studies/{study.study_id}?after=0") as answer:
                content = json.load(answer)
            with urlopen(f"http://127.0.0.1:{server.server_port}/dashboard/studies/{study.study_id}") as page:
                assert page.status == 200
        finally:
            server.shutdown()
            thread.join()
    assert content["name"] == "s"
    assert len(content["trials"]) == 6


def asked(app: Callable[..., Any], method: str, path: str, content: object) -> str:
    """The status with which the dashboard answers."""
    body, answers = json.dumps(content).encode(), list[str]()
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
        "wsgi.errors": BytesIO(),
        "wsgi.url_scheme": "http",
    }
    list(app(environ, lambda status, *_: answers.append(status)))
    return answers[0]


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("DELETE", "/api/studies/{study}", {}),
        ("POST", "/api/studies", {"study_name": "theirs", "directions": ["maximize"]}),
        ("POST", "/api/trials/{trial}/tell", {"state": "Fail"}),
        ("PUT", "/api/studies/{study}/note", {"body": "mine", "version": 1}),
    ],
)
def test_it_cannot_change_the_database(study: Study, method: str, path: str, content: object) -> None:
    pytest.importorskip("optuna_dashboard")
    before = everything(study.url)
    trial = before["trials"][0][0]
    status = asked(dashboard_app(study), method, path.format(study=study.study_id, trial=trial), content)
    assert status.startswith("500")
    assert everything(study.url) == before


def everything(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    with open_engine(url).connect() as connection:
        tables = sa.MetaData()
        tables.reflect(connection)
        return {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr)
            for table in tables.sorted_tables
        }


def test_without_the_extra_it_says_how_to_install_it(nas: Nas, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    code, out, err = nas("dashboard", "s", "--storage", study.url)
    assert (code, out) == (2, "")
    assert "pip install 'fusion-nas[dashboard]'" in err
    assert len(err.splitlines()) == 1


def test_a_port_that_is_taken(nas: Nas, study: Study) -> None:
    pytest.importorskip("optuna_dashboard")
    with dashboard_server(study, "127.0.0.1", 0) as server:
        code, _, err = nas("dashboard", "s", "--storage", study.url, "--port", server.server_port)
    assert code == 2
    assert f"--port {server.server_port}: cannot listen on 127.0.0.1" in err
