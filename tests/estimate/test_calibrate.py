import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nas.architecture import Architecture
from nas.errors import UserError
from nas.estimate.calibration.judge import conclude
from nas.estimate.calibration.runner import Runner
from nas.estimate.calibration.runs import Result, Run
from nas.estimate.calibration.sample import spread_sample
from nas.estimate.calibration.task import CalibrationTask, make_task
from nas.estimate.config import CalibrationConfig
from nas.estimate.predictor import choices
from nas.measurement import Interrupted
from nas.space.landmarks import landmark_in
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


def simulated(task: CalibrationTask, noise: float, cheap: float) -> dict[str, Result]:
    """Results of trainings whose architectures have a planted quality; ``cheap`` is the noise of cheap scores."""
    random = np.random.default_rng(0)
    quality = dict(zip(task.by_digest, random.normal(0.8, 0.02, len(task.by_digest)), strict=True))

    def result(run: Run) -> Result:
        if run.kind == "shared":
            scores = {d: [q + random.normal(0, cheap), 0.5 - q] for d, q in quality.items()}
            return {"network": "n", "scores": scores, "train_s": 1.0, "score_s": 0.1}
        spread = noise if run.kind == "full" else cheap
        accuracy = [0.1, quality[run.digest] + random.normal(0, spread)][-run.epochs :]
        return {"outcome": "complete", "accuracy": accuracy, "loss": accuracy, "cost_s": float(run.epochs)}

    return {run.key: result(run) for run in task.runs}


def planted_task(space: SearchSpace, architectures: int = 32) -> CalibrationTask:
    config = CalibrationConfig(architectures=architectures, seeds=3, brief_epochs=(1,), fractions=())
    return make_task(space, DATA, open_data(DATA).summary, TrainingConfig(epochs=2), config=config)


def test_a_score_that_ranks_is_found_and_advised(space: SearchSpace) -> None:
    task = planted_task(space)
    found = conclude(task, simulated(task, noise=0.005, cheap=0.1))
    assert found.choice is not None
    assert "by loss" in found.choice
    assert found.advice.startswith(f"use {found.choice}")


def test_additive_effects_make_the_predictor_the_choice(space: SearchSpace) -> None:
    task = planted_task(space)
    results = dict(simulated(task, noise=0.5, cheap=0.5))
    random = np.random.default_rng(1)
    held = {digest: choices(architecture) for digest, architecture in task.by_digest.items()}
    effects = {choice: random.normal(0, 0.02) for choice in sorted(set().union(*held.values()))}
    for run in task.truth:
        accuracy = 0.7 + sum(effects[choice] for choice in held[run.digest]) + random.normal(0, 0.005)
        results[run.key] = {"outcome": "complete", "accuracy": [accuracy], "loss": [1.0], "cost_s": 1.0}
    found = conclude(task, results)
    assert found.choice == f"predictor, {len(task.truth)} trainings"
    assert found.settings == {"by": "predictor", "epochs": None}
    assert found.advice.endswith("and needs no further training")


def test_noise_is_called_noise(space: SearchSpace) -> None:
    task = planted_task(space)
    found = conclude(task, simulated(task, noise=0.5, cheap=0.01))
    assert found.choice is None
    assert found.advice.endswith("not worth its cost")


def test_a_run_that_broke_at_once_counts_as_chance(space: SearchSpace) -> None:
    task = planted_task(space)
    results = simulated(task, noise=0.005, cheap=0.005)
    results[task.truth[0].key] = {"outcome": "unstable", "accuracy": [], "loss": [], "cost_s": 0.1}
    assert conclude(task, results).spread.seeds > 0.05


def test_a_shared_network_that_broke_is_left_out(space: SearchSpace) -> None:
    task = planted_task(space)
    results = simulated(task, noise=0.005, cheap=0.005)
    shared = [run.key for run in task.runs if run.kind == "shared" and run.epochs == 1]
    results[shared[0]] = {"failed": "loss is nan"}
    names = {f.name for f in conclude(task, results).fidelities}
    assert "shared, 1 epoch, 2 networks, by loss" in names
    assert "shared, 2 epochs, 3 networks, by loss" in names


def test_the_sample_holds_the_landmarks_of_the_space_and_spreads() -> None:
    space = SearchSpace.load("patterns")
    sample = spread_sample(space, 24, seed=0)
    digests = {a.digest for a in sample}
    assert len(digests) == 24
    assert {landmark_in(space, name).digest for name in ("plain", "se-everywhere", "se-post", "se-pre")} <= digests
    assert all(a in space for a in sample)
    for stage in range(4):
        assert {a.stages[stage].pattern for a in sample} == {"none", "p1", "p2", "p3", "p4"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": 7}, r"calibrate: architectures: .* greater than or equal to 8, got 7"),
        ({"seeds": 1}, r"calibrate: seeds: .* greater than or equal to 2, got 1"),
    ],
)
def test_too_small_a_calibration_is_refused(config: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CalibrationConfig.parse(config, "calibrate")


def test_a_space_with_too_few_architectures_is_refused() -> None:
    choices = {"pattern": ["none", "p1"], "attention": ["se"]}
    stages = {str(n): {"pattern": ["none"]} for n in (1, 2)}
    space = SearchSpace.from_dict({"schema": 1, "choices": choices, "stages": stages})
    with pytest.raises(UserError, match=r"calibrate.architectures: expected at least 8, got 4"):
        make_task(space, DATA, open_data(DATA).summary, TrainingConfig())


def test_a_plain_architecture_is_in_every_sample_that_can_hold_it(space: SearchSpace) -> None:
    plain = Architecture.plain(space.backbone, num_classes=10, in_chans=1)
    assert spread_sample(space, 8, seed=3)[0].digest == plain.digest


def test_a_run_goes_on_from_its_checkpoint_to_the_same_result(
    task: CalibrationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.training.fit.CHECKPOINT_S", 0.0)
    task = dataclasses.replace(task, training=task.training.model_copy(update={"epochs": 3}))
    shared = next(run for run in task.runs if run.kind == "shared")
    runs = [task.truth[0], dataclasses.replace(shared, epochs=3)]
    for number, run in enumerate(runs):
        told: list[int] = []
        checkpoint = tmp_path / f"{number}.ckpt"
        broken_off = Runner(task, folder=tmp_path, should_stop=lambda told=told: bool(told))
        with pytest.raises(Interrupted):
            broken_off.do(run, on_epoch=lambda epoch, told=told: told.append(epoch.epoch), checkpoint=checkpoint)
        assert told == [0]
        seen: list[int] = []
        runner = Runner(task, folder=tmp_path)
        resumed = runner.do(run, on_epoch=lambda epoch, seen=seen: seen.append(epoch.epoch), checkpoint=checkpoint)
        assert seen == list(range(1, run.epochs)), "what the checkpoint holds is not trained again"
        whole = runner.do(run)
        for key in ("accuracy", "loss", "scores"):
            assert resumed.result.get(key) == whole.result.get(key)


def test_the_plain_weights_are_trained_once_for_all(
    task: CalibrationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dataclasses.replace(task.truth[0], kind="inherit", seed=1000)
    first = Runner(task, folder=tmp_path).do(run).result
    monkeypatch.setattr(Runner, "_make_plain", lambda *_: pytest.fail("trained again"))
    again = Runner(task, folder=tmp_path).do(run).result
    assert first["accuracy"] == again["accuracy"]
    assert [path.suffix for path in tmp_path.glob("plain-*") if path.suffix != ".lock"] == [".safetensors"]
