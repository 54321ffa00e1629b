"""Trials as runs of a tracker: what is logged, and that nothing is where nobody asked for it."""

import socket
import sqlite3
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nas.architecture import Architecture
from nas.measurement import EpochRecord, Measurement, Outcome
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.run.stop import StopFlag
from nas.study.run.training import OnEpoch
from nas.study.run.worker import Worker
from nas.study.store.reader import Study, open_study
from nas.training.tracking import Tracking, check_tracker
from tests import warm
from tests.cli.conftest import write_study
from tests.study.conftest import SUMMARY

EPOCHS = 3
NAME = "my study"


class Pretend:
    """Three epochs without any training; the second trial breaks."""

    device = "cpu"

    def __init__(self) -> None:
        self.count = 0

    def __call__(
        self, architecture: Architecture, *, on_epoch: OnEpoch, should_stop: Callable[[], bool], checkpoint: Path
    ) -> Measurement:
        self.count += 1
        epochs = tuple(
            EpochRecord(
                epoch=i,
                train_loss=1.0,
                val_loss=1.0,
                val_accuracy=0.25 * (i + 1),
                learning_rate=0.1,
                grad_norm=float("nan"),
                train_s=1.0,
                val_s=1.0,
            )
            for i in range(EPOCHS)
        )
        for epoch in epochs:
            on_epoch(epoch)
        done = Measurement(
            outcome=Outcome.COMPLETE,
            score=epochs[-1].val_accuracy,
            seed=0,
            budget=EPOCHS,
            num_params=11,
            macs=22,
            wall_s=3.0,
            epochs=epochs,
        )
        return done if self.count != 2 else replace(done, outcome=Outcome.UNSTABLE, reason="loss-spike")


def worked(folder: Path, tracker: str | None, num_trials: int = 2) -> Study:
    """A study of which a worker has done the first trials."""
    content = {"name": NAME, "space": "patterns", "training": {"epochs": EPOCHS}, "tracking": tracker}
    url = f"sqlite:///{folder / 'nas.db'}"
    study = create_study(StudyConfig.parse(content, "test"), "", url, lambda _: SUMMARY)
    assert Worker(study, Pretend(), stop=StopFlag()).run(num_trials) == num_trials
    return study


def test_off_by_default_nothing_is_written_or_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    worked(tmp_path, None)
    assert not (tmp_path / "tracking").exists()


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    worked(tmp_path, "tensorboard")
    run = tmp_path / "tracking" / NAME / "trial-1"
    events = EventAccumulator(str(run))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("val_accuracy")] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert [(e.step, e.value) for e in events.Scalars("score")] == [(3, 0.75)]
    parameters = yaml.safe_load((run / "hparams.yaml").read_text())
    assert parameters["landmark"] == "se-everywhere"
    assert (parameters["stage4.pattern"], parameters["stage4.attention"]) == ("p1", "se")
    assert sorted(path.name for path in run.parent.iterdir()) == ["trial-0", "trial-1"]


def worked_for_mlflow(arguments: list[str]) -> int:
    worked(Path(arguments[0]), "mlflow")
    return 0


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: MLflow's use of SQLAlchemy warns, and warnings are errors here."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    warm.run(tmp_path, program=worked_for_mlflow).check_returncode()
    with sqlite3.connect(tmp_path / "tracking" / "mlflow.db") as database:
        runs = dict(database.execute("SELECT name, status FROM runs"))
        curve = "SELECT step, value FROM metrics JOIN runs USING (run_uuid) WHERE key = 'val_accuracy' AND name = ?"
        assert list(database.execute(f"{curve} ORDER BY step", [f"{NAME}/trial-0"])) == [(1, 0.25), (2, 0.5), (3, 0.75)]
        parameter = "SELECT value FROM params JOIN runs USING (run_uuid) WHERE key = 'stage1.pattern' ORDER BY name"
        assert list(database.execute(parameter)) == [("none",), ("p1",)]
    assert runs == {f"{NAME}/trial-0": "FINISHED", f"{NAME}/trial-1": "FAILED"}


class FakeLogger:
    """Lightning's logger, as far as it is used; breaks when it is told to."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.arguments, self.options = arguments, options
        self.said: list[object] = []

    def log_hyperparams(self, parameters: dict[str, object]) -> None:
        self.said.append(parameters)

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.said.append((step, values))
        if values.get("val_accuracy") == 0.5 and self.options.get("breaks"):
            raise OSError("the server is away")

    def save(self) -> None:
        self.said.append("saved")

    def finalize(self, status: str) -> None:
        self.said.append(status)


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeLogger] = []
    finished: list[int] = []

    def make(*arguments: object, **options: object) -> FakeLogger:
        made.append(FakeLogger(*arguments, **options))
        return made[-1]

    fake = types.ModuleType("wandb")
    fake.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    fake.finish = lambda: finished.append(len(made))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger", make)
    worked(tmp_path, "wandb")
    assert [logger.arguments[0] for logger in made] == [f"{NAME}/trial-0", f"{NAME}/trial-1"]
    assert [logger.options["group"] for logger in made] == [NAME, NAME]
    assert [logger.said[-1] for logger in made] == ["success", "failed"]
    assert finished == [1, 2]


def test_a_tracker_that_fails_does_not_stop_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nas.training.tracking._MAKERS", {"tensorboard": lambda *_: FakeLogger(breaks=True)})
    study = worked(tmp_path, "tensorboard")
    assert [t.score for t in open_study(study.url, NAME).trials()[:2]] == [0.75, 0.75]
    assert next(r.message for r in caplog.records) == f"{NAME}/trial-0: tensorboard gave up: the server is away"


def test_without_the_package_one_line_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nas.cli import main

    monkeypatch.setitem(sys.modules, "wandb", None)
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    code = main(["search", str(write_study(tmp_path, tracking="wandb")), "--storage", url])
    out, err = capsys.readouterr()
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "pip install 'fusion-nas[wandb]'" in err
    assert not (tmp_path / "nas.db").exists()
    check_tracker(None)


def test_a_stored_study_can_change_its_tracker(tmp_path: Path) -> None:
    from nas.study.launch.create import check_same, set_tracking

    study = worked(tmp_path, None)
    config = StudyConfig.parse({**study.config, "tracking": "tensorboard"}, "test")
    check_same(config, study)
    set_tracking(study, "tensorboard")
    assert Worker(open_study(study.url, NAME), Pretend(), stop=StopFlag()).tracking == Tracking(
        tracker="tensorboard",
        study=NAME,
        folder=tmp_path / "tracking",
        mlflow_url=f"sqlite:///{tmp_path / 'tracking' / 'mlflow.db'}",
    )
