"""Calibrations without a study: `benchmarks/calibrating.py`."""

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.calibrating import Progress, calibrate
from benchmarks.result_file import FileStore
from nas.errors import UserError
from nas.estimate.calibration.runs import Result
from nas.estimate.calibration.task import CalibrationTask, make_task
from nas.estimate.config import CalibrationConfig
from nas.space.space import SearchSpace
from nas.training.config import TrainingConfig
from nas.training.data import open_data
from tests.estimate.conftest import DATA


@pytest.fixture
def task(space: SearchSpace, training: TrainingConfig) -> CalibrationTask:
    config = CalibrationConfig(
        architectures=8, seeds=2, brief_epochs=(1,), fractions=(0.5,), shared_epochs=(1,), networks=2, norm_images=64
    )
    return make_task(space, DATA, open_data(DATA).summary, training.model_copy(update={"epochs": 1}), config=config)


def test_a_calibration_goes_on_where_it_stopped(task: CalibrationTask, tmp_path: Path) -> None:
    class Stops(FileStore):
        def add(self, task: str, run: str, result: Result) -> None:
            super().add(task, run, result)
            if len(self.results(task)) == 11:
                raise KeyboardInterrupt

    path = tmp_path / "results.jsonl"
    with pytest.raises(KeyboardInterrupt):
        calibrate(task, Stops(path))
    with path.open("a") as file:
        file.write('{"task": "torn')
    seen: list[Progress] = []
    found = calibrate(task, FileStore(path), on_progress=seen.append)
    assert (seen[0].done, seen[0].total, seen[-1].share) == (11, len(task.runs), 1.0)
    assert len(path.read_text().splitlines()) == len(task.runs)
    assert (found.num_architectures, found.num_seeds) == (8, 2)
    assert json.loads(json.dumps(found.to_dict()))["advice"] == found.advice
    names = {fidelity.name for fidelity in found.fidelities}
    assert {"brief, 1 epoch", "fraction 0.5, 1 epoch", "shared, 1 epoch, 2 networks, by loss"} <= names
    assert "predictor, 16 trainings" in names
    assert found.predictor is not None
    assert found.predictor.num_trainings == 16


def test_worker_processes_give_what_one_process_gives(task: CalibrationTask, tmp_path: Path) -> None:
    few = dataclasses.replace(
        task, config=task.config.model_copy(update={"brief_epochs": (), "fractions": (), "networks": 1})
    )
    stores = [FileStore(tmp_path / f"{workers}.jsonl") for workers in (1, 2)]
    for workers, store in enumerate(stores, start=1):
        calibrate(few, store, workers=workers)
    one, two = (store.results(few.digest) for store in stores)
    assert one.keys() == two.keys()
    for run in few.runs:
        what = "scores" if run.kind == "shared" else "accuracy"
        assert one[run.key][what] == two[run.key][what]


def test_results_of_another_task_are_not_used(task: CalibrationTask, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "results.jsonl")
    store.add(task.digest, "run", {"a": 1})
    other = dataclasses.replace(task, training=TrainingConfig(epochs=3))
    assert other.digest != task.digest
    assert (store.results(task.digest), store.results(other.digest)) == ({"run": {"a": 1}}, {})


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("hello\n")
    with pytest.raises(UserError, match=r"results.jsonl, line 1: expected a calibration result, got 'hello'"):
        FileStore(path).results("t")
