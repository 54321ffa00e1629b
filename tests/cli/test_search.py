"""A study from the command line: create, repeat, resume, read, export, interrupt."""

import csv
import io
import json
import signal
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import timm

import nas as package
from nas.study.store.reader import Study, open_study
from tests import warm
from tests.study.test_crash import LIMIT_S, wait_for

from .conftest import write_study

Nas = Callable[..., tuple[int, str, str]]


def outcome(study: Study) -> list[tuple[object, ...]]:
    """What may not depend on how often a study was interrupted."""
    return [
        (t.number, t.state, t.digest, t.score, t.reason, tuple(e.train_loss for e in t.epochs)) for t in study.trials()
    ]


def test_create_repeat_resume_read_export(nas: Nas, tmp_path: Path) -> None:
    file, url = write_study(tmp_path, workers=2), f"sqlite:///{tmp_path / 'nas.db'}"

    code, out, err = nas("search", file, "--storage", url)
    assert (code, "6 of 6 trials" in out) == (0, True), err
    assert "best " in out
    assert "plain " in out
    assert "nas export tiny" in err
    assert f"best network   {tmp_path / 'tiny' / 'best.yaml'}" in out
    assert package.Architecture.load(tmp_path / "tiny" / "best.yaml").num_classes == 10
    assert (tmp_path / "tiny" / "report.html").stat().st_size > 100_000

    code, out, err = nas("search", file, "--storage", url)
    assert code == 0
    assert "has its 6 trials; nothing to do" in err
    assert len(open_study(url, "tiny").trials()) == 6

    code, out, err = nas("resume", "tiny", "--trials", 8, "--workers", 1, "--storage", url)
    assert (code, "8 of 8 trials" in out) == (0, True), err

    study = open_study(url, "tiny")
    trials = study.trials()
    assert [t.number for t in trials] == list(range(8))
    assert {t.state for t in trials} <= {"complete", "pruned"}
    assert len({t.digest for t in trials}) == 8
    assert [t.landmark for t in trials[:3]] == ["plain", "se-everywhere", "dual-default"]
    assert all(len(t.epochs) == 1 and t.crashes == 0 for t in trials)
    assert study.provenance["packages"]["timm"] == timm.__version__
    assert study.config_text == file.read_text()

    stored = optuna.load_study(study_name="tiny", storage=url)
    assert [t.value for t in stored.trials] == [t.score for t in trials if t.state == "complete"]

    code, out, _ = nas("status", "tiny", "--storage", url, "--json")
    status = json.loads(out)
    best = study.best()
    assert best is not None
    assert (code, status["ended"], status["best"]["number"]) == (0, 8, best.number)
    assert status["plain"]["score"] == trials[0].score

    code, out, _ = nas("trials", "tiny", "--storage", url, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [float(row["score"]) for row in rows] == [t.score for t in trials]
    code, out, _ = nas("trials", "tiny", "--storage", url, "--json", "--state", "complete")
    assert [t["digest"] for t in json.loads(out)] == [t.digest for t in trials if t.state == "complete"]
    assert "se-everywhere" in nas("trials", "tiny", "--storage", url)[1]

    exported = tmp_path / "out" / "best.yaml"
    code, out, err = nas("export", "tiny", "--storage", url, "-o", exported)
    assert code == 0, err
    model = package.build_model(package.Architecture.load(exported))
    assert isinstance(model, timm.models.ResNet)
    assert sum(p.numel() for p in model.parameters()) == best.num_params
    code, *_ = nas("export", "tiny", "--storage", url, "--trial", 1, "-o", tmp_path / "se.json")
    se = package.Architecture.load(tmp_path / "se.json")
    assert (code, se.digest, str(se.stages[0])) == (0, trials[1].digest, "p1 se/4 λ1")


def to_interrupt(folder: Path, url: str) -> list[str]:
    # long enough to be at work when the signal comes, on a busy machine too
    file = write_study(folder, space="full", training={"epochs": 10, "batch_size": 64})
    return ["search", str(file), "--storage", url]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    url = f"sqlite:///{folder / 'nas.db'}"
    warm.run(*to_interrupt(folder, url)).check_returncode()
    return outcome(open_study(url, "tiny"))


def test_interrupted_and_resumed_is_the_same_study(undisturbed: list[tuple[object, ...]], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    command = to_interrupt(tmp_path, url)
    process = warm.Command(*command)
    wait_for(lambda: len(ended(url)) >= 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert "go on with: nas resume tiny" in err
    states = {t.state for t in open_study(url, "tiny").trials()}
    assert "running" not in states
    assert open_study(url, "tiny").num_alive() == 0
    again = warm.run(*command)
    assert again.returncode == 0, again.stderr
    assert outcome(open_study(url, "tiny")) == undisturbed


def ended(url: str) -> list[int]:
    if not Path(url.removeprefix("sqlite:///")).exists():
        return []
    try:
        return [t.number for t in open_study(url, "tiny").trials() if t.state in ("complete", "pruned")]
    except package.UserError:  # the launcher has not stored the study yet
        return []
