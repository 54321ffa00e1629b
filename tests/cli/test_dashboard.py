"""The dashboard reads a study and cannot change it."""

import json
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import pytest

from nas.study.config import StudyConfig
from nas.study.dashboard import dashboard_app, dashboard_server
from nas.study.launch.create import create_study
from nas.study.store.reader import Study, open_study
from tests.study.conftest import SUMMARY

Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    url = f"sqlite:///{tmp_path / 'a folder?' / 'nas #1.db'}"
    return create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY)


def test_it_shows_the_study(study: Study) -> None:
    pytest.importorskip("optuna_dashboard")
    with dashboard_server(study, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            with urlopen(f"http://127.0.0.1:{server.server_port}/api/studies/{study.study_id}?after=0") as answer:
                content = json.load(answer)
        finally:
            server.shutdown()
            thread.join()
    assert content["name"] == "s"
    assert len(content["trials"]) == 6


def test_it_cannot_change_the_study(study: Study) -> None:
    pytest.importorskip("optuna_dashboard")
    app = dashboard_app(study)
    answers: list[str] = []
    environ = {
        "REQUEST_METHOD": "DELETE",
        "PATH_INFO": f"/api/studies/{study.study_id}",
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": "2",
        "wsgi.input": BytesIO(b"{}"),
        "wsgi.errors": BytesIO(),
        "wsgi.url_scheme": "http",
    }
    list(app(environ, lambda status, *_: answers.append(status)))
    assert answers[0].startswith("500")
    assert len(open_study(study.url, "s").trials()) == 6


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
