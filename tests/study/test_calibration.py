"""A calibration is a companion study: the same workers, one trial a run, whatever happens to them."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from nas.cli import main
from nas.errors import NasError
from nas.estimate.calibration.runner import Done
from nas.estimate.calibration.runs import Run
from nas.estimate.calibration.task import CalibrationTask
from nas.estimate.config import CalibrationConfig
from nas.measurement import EpochRecord, Measurement, Outcome
from nas.report.summary import summarise
from nas.study.calibration import work
from nas.study.calibration.conclude import concluded
from nas.study.calibration.prepare import prepare_calibration
from nas.study.calibration.task import stored_task, task_of
from nas.study.calibration.work import CalibrationWorker
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.removal import plan_removal, remove
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.run.stop import StopFlag
from nas.study.store import tables
from nas.study.store.calibrations import results_of
from nas.study.store.engine import open_engine
from nas.study.store.leases import MAX_CRASHES, put_back
from nas.study.store.optuna_storage import close_storage, make_storage, open_storage
from nas.study.store.reader import Study, calibrations_in, open_study, study_names
from nas.study.store.workers import join, leave
from nas.training.config import TrainingConfig

from .conftest import SUMMARY
from .store.test_upgrade import make_older

ASKED = CalibrationConfig(architectures=8, seeds=2, brief_epochs=(1,), fractions=(0.5,), shared_epochs=(2,), networks=2)


@pytest.fixture
def config() -> StudyConfig:
    training = TrainingConfig(epochs=2, device="cpu")
    return StudyConfig(name="s", space="patterns", training=training, estimate="auto", calibrate=ASKED)


@pytest.fixture
def task(config: StudyConfig) -> CalibrationTask:
    return task_of(config, SUMMARY)


def prepared(config: StudyConfig, url: str, task: CalibrationTask) -> Study:
    calibration = prepare_calibration(config, "name: s", url, task, summary=SUMMARY, provenance={"python": "3"})
    assert calibration is not None
    return calibration


class PlantedRunner:
    """Trains nothing; notes what was asked of it, and may be told to break."""

    done: "list[str]" = []  # noqa: RUF012 - set anew for each test
    breaks: "Callable[[Run], None]" = staticmethod(lambda run: None)

    def __init__(self, task: CalibrationTask, **_: object) -> None:
        self.task = task

    def do(self, run: Run, *, on_epoch: Callable[[EpochRecord], None], checkpoint: Path) -> Done:
        type(self).breaks(run)
        type(self).done.append(run.key)
        if run.kind == "shared":
            scores = {a.digest: [0.5, 1.0] for a in self.task.architectures}
            return Done(result={"network": "n", "scores": scores, "train_s": 1.0, "score_s": 0.1}, measurement=None)
        score = int(run.digest[:4], 16) / 0xFFFF + run.seed / 1e6
        epochs = tuple(epoch(number, score) for number in range(run.epochs))
        for one in epochs:
            on_epoch(one)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text("weights")
        measurement = Measurement(
            outcome=Outcome.COMPLETE,
            score=score,
            seed=run.seed,
            budget=run.epochs,
            num_params=1,
            macs=1,
            wall_s=1.0,
            epochs=epochs,
        )
        curve = {"outcome": "complete", "accuracy": [score] * run.epochs, "loss": [1.0] * run.epochs, "cost_s": 1.0}
        return Done(result=curve, measurement=measurement)


def epoch(number: int, score: float) -> EpochRecord:
    return EpochRecord(
        epoch=number,
        train_loss=1.0,
        val_loss=1.0,
        val_accuracy=score,
        learning_rate=0.1,
        grad_norm=1.0,
        train_s=0.1,
        val_s=0.1,
    )


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> type[PlantedRunner]:
    monkeypatch.setattr(PlantedRunner, "done", [])
    monkeypatch.setattr(work, "Runner", PlantedRunner)
    return PlantedRunner


def worker_on(calibration: Study, name: str = "w") -> CalibrationWorker:
    training: Any = SimpleNamespace(
        device="cpu",
        data=None,
        training=calibration.settings.training,
        robust=lambda do, checkpoint: do(),
    )
    return CalibrationWorker(calibration, training, stop=StopFlag(), worker_id=name)


def test_its_trials_are_the_runs_each_done_once(
    config: StudyConfig, url: str, task: CalibrationTask, planted: type[PlantedRunner]
) -> None:
    calibration = prepared(config, url, task)
    assert stored_task(calibration).digest == task.digest
    assert [run.key for run in stored_task(calibration).runs] == [run.key for run in task.runs]
    assert worker_on(calibration, "one").run(max_trials=3) == 3
    assert worker_on(calibration, "two").run() == len(task.runs) - 3
    assert planted.done == [run.key for run in task.runs]
    trials = calibration.trials()
    assert [t.run for t in trials] == planted.done
    assert {t.state for t in trials} == {"complete"}
    assert {t.seed for t in trials if t.run and not t.run.startswith("shared")} == {0, 1, 1000}
    assert calibration.best() is None, "a run is no candidate"
    assert not CheckpointFolder(calibration).files()
    found = concluded(url, task, calibration)
    assert (found.num_architectures, found.num_seeds) == (8, 2)
    assert prepare_calibration(config, "", url, task, summary=SUMMARY, provenance={}) is None


def test_brief_trainings_come_first_and_then_the_longest(task: CalibrationTask) -> None:
    kinds = [run.kind for run in task.runs]
    assert kinds[:8] == ["brief"] * 8
    efforts = [run.effort for run in task.runs[8:]]
    assert efforts == sorted(efforts, reverse=True)


def test_the_same_command_goes_on_and_another_calibration_stands_beside_it(
    config: StudyConfig, url: str, task: CalibrationTask, planted: type[PlantedRunner]
) -> None:
    calibration = prepared(config, url, task)
    worker_on(calibration).run(max_trials=5)
    again = prepared(config, url, task)
    assert (again.study_id, again.target, again.runs) == (calibration.study_id, len(task.runs), calibration.runs)
    more = task_of(config, SUMMARY, ASKED.model_copy(update={"seeds": 3}))
    other = prepared(config, url, more)
    assert (more.digest, other.target) == (task.digest, len(more.runs) - 5), "results are shared"
    assert [c.name for c in calibrations_in(url, "s")] == [calibration.name, other.name]
    worker_on(other).run()
    before = len(planted.done)
    worker_on(calibration).run()
    assert len(planted.done) == before, "the other has brought all results"
    assert concluded(url, task, calibration).num_seeds == 2
    assert Counter(planted.done).most_common(1)[0][1] == 1


def test_it_works_for_a_study_that_is_not_there_yet(config: StudyConfig, url: str, task: CalibrationTask) -> None:
    calibration = prepared(config, url, task)
    assert study_names(url) == []
    assert calibration.calibrates == "s"
    study = create_study(fully_trained(config), "", url, lambda _: SUMMARY)
    assert [part.name for part in study.parts()] == ["s", calibration.name]
    assert study_names(url) == ["s"]


def test_a_run_whose_worker_died_is_done_by_another(
    config: StudyConfig, url: str, task: CalibrationTask, planted: type[PlantedRunner]
) -> None:
    calibration = prepared(config, url, task)
    dead = worker_on(calibration, "dead")
    join(dead.engine, calibration.study_id, "dead", "cpu")
    trial = dead._next_trial()
    assert trial is not None
    dead.results.begin(trial._trial_id, "d" * 16)
    leave(dead.engine, "dead")
    worker_on(calibration).run()
    assert planted.done == [run.key for run in task.runs]
    close_storage(dead.storage)


def test_a_run_that_kills_its_workers_is_given_up_and_tried_again_when_asked(
    config: StudyConfig, url: str, task: CalibrationTask
) -> None:
    calibration = prepared(config, url, task)
    doomed = worker_on(calibration, "doomed")
    join(doomed.engine, calibration.study_id, "doomed", "cpu")
    for _ in range(MAX_CRASHES):
        trial = doomed._next_trial()
        assert trial is not None
        assert trial.number == 0
        doomed.results.begin(trial._trial_id, "d" * 16)
        put_back(doomed.engine, trial._trial_id, "doomed", crashed=True)
    close_storage(doomed.storage)
    worker_on(calibration).run()
    with pytest.raises(NasError, match=r"1 of \d+ runs have no result \(its worker died 3 times .*tries them again"):
        concluded(url, task, calibration)
    again = prepared(config, url, task)
    assert again.target == len(task.runs) + 1
    worker_on(again).run()
    assert concluded(url, task, again).num_architectures == 8


def test_what_failed_is_named(
    config: StudyConfig,
    url: str,
    task: CalibrationTask,
    planted: type[PlantedRunner],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calibration = prepared(config, url, task)

    def breaks(run: Run) -> None:
        if run.key == task.runs[4].key:
            raise RuntimeError("no convolution today")

    monkeypatch.setattr(planted, "breaks", staticmethod(breaks))
    worker_on(calibration).run()
    with pytest.raises(NasError, match=r"1 of \d+ runs have no result \(RuntimeError: no convolution today\)"):
        concluded(url, task, calibration)


def test_results_of_an_older_database_count(
    config: StudyConfig, url: str, task: CalibrationTask, planted: type[PlantedRunner]
) -> None:
    """Before version 6 a calibration had its results alone."""
    close_storage(make_storage(url))
    old = [run.key for run in task.truth[:6]]
    with open_storage(url).engine.begin() as connection:
        curve = {"outcome": "complete", "accuracy": [0.5, 0.75], "loss": [1.0, 0.9], "cost_s": 2.0}
        rows = [{"task": task.digest, "run": key, "result": curve} for key in old]
        connection.execute(sa.insert(tables.calibrations), rows)
    make_older(url)
    calibration = prepared(config, url, task)
    assert calibration.target == len(task.runs) - 6
    worker_on(calibration).run()
    assert not set(old) & set(planted.done)
    assert results_of(url, task.digest)[old[0]]["accuracy"] == [0.5, 0.75]
    assert concluded(url, task, calibration).num_architectures == 8


def test_time_left_goes_by_what_runs_take(config: StudyConfig, url: str, task: CalibrationTask) -> None:
    calibration = prepared(config, url, task)
    worker_on(calibration).run(max_trials=8)
    with open_engine(url).begin() as connection:  # the worker has come back, and each brief run took a second
        connection.execute(sa.update(tables.workers).values(ended_at=None, started_at=0.0))
        took = "datetime_start = '2026-01-01 00:00:00', datetime_complete = '2026-01-01 00:00:01'"
        connection.execute(sa.text(f"UPDATE trials SET {took} WHERE state = 'COMPLETE'"))
    summary = summarise(calibration)
    assert (summary.unit, summary.ended, summary.target) == ("run", 8, len(task.runs))
    assert summary.trials_per_minute == pytest.approx(60.0)
    assert summary.left_s == pytest.approx(sum(run.effort for run in task.runs[8:]))


def test_status_shows_it_until_it_is_done(
    config: StudyConfig, tmp_path: Path, task: CalibrationTask, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    calibration = prepared(config, url, task)
    worker_on(calibration).run(max_trials=2)
    for arguments in (["status"], ["status", "s"], ["status", calibration.name]):
        assert main([*arguments, "--storage", url]) == 0
        assert f"calibration {calibration.name}: 2 of {len(task.runs)} runs · 2 complete" in capsys.readouterr().out
    assert main(["status", "s", "--json", "--storage", url]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["study"], content["ended"], content["done"]) == (calibration.name, 2, False)
    assert main(["trials", calibration.name, "--storage", url]) == 0
    assert task.runs[0].key in capsys.readouterr().out
    create_study(fully_trained(config), "", url, lambda _: SUMMARY)
    assert main(["status", "s", "--storage", url]) == 0
    assert "study s: 0 of 50 trials" in (both := capsys.readouterr().out)
    assert calibration.name in both, "it is not done yet"
    worker_on(open_study(url, calibration.name)).run()
    assert main(["status", "--storage", url]) == 0
    assert calibration.name not in capsys.readouterr().out


def test_results_go_with_the_last_study_that_was_calibrated_by_them(
    config: StudyConfig, url: str, task: CalibrationTask
) -> None:
    other = config.model_copy(update={"name": "t"})
    calibrations = [prepared(one, url, task) for one in (config, other)]
    worker_on(calibrations[0]).run()
    before = results_of(url, task.digest)
    assert len(before) == len(task.runs)
    remove(plan_removal(url, "s"))
    assert results_of(url, task.digest) == before
    remove(plan_removal(url, "t"))
    assert results_of(url, task.digest) == {}


def fully_trained(config: StudyConfig) -> StudyConfig:
    return config.model_copy(update={"estimate": config.estimate.model_copy(update={"by": "full"})})
