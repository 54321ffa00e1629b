import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.architecture import Architecture
from nas.estimate.predictor import PENALTIES, Predictor, _ridge, choices, held_out
from nas.estimate.ranking import spearman
from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace

RUNS = 40


@pytest.fixture(scope="module")
def patterns() -> SearchSpace:
    return SearchSpace.load("patterns")


def drawn(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    random = np.random.default_rng(seed)
    found: dict[str, Architecture] = {}
    while len(found) < count:
        architecture = space.sample(random)
        found[architecture.digest] = architecture
    return list(found.values())


def planted(architectures: Sequence[Architecture], noise: float, seed: int = 0) -> NDArray[np.float64]:
    """(A, 3): every pattern of every stage adds what it adds, and each training has its luck."""
    effects = {}
    random = np.random.default_rng(7)
    for stage in range(1, 5):
        for pattern in ("none", "p1", "p2", "p3", "p4"):
            effects[f"stage {stage} pattern {pattern}"] = random.normal(0, 0.01)
    quality = np.array([0.8 + sum(effects.get(c, 0.0) for c in choices(a)) for a in architectures])
    return quality[:, None] + np.random.default_rng(seed).normal(0, noise, (len(architectures), 3))


def test_effects_of_choices_are_found_and_tell_of_networks_never_trained(patterns: SearchSpace) -> None:
    architectures = drawn(patterns, 90, seed=0)
    seen, others = architectures[:50], architectures[50:]
    model = Predictor.fit(seen, planted(seen, noise=0.001))
    assert model.num_trainings == 150
    predicted, true = [model.predict(a) for a in others], planted(others, noise=0).mean(1)
    assert predicted == pytest.approx(true, abs=0.006)
    assert spearman(np.array(predicted), true) > 0.95


def test_it_is_the_same_after_a_database(patterns: SearchSpace) -> None:
    architectures = drawn(patterns, 12, seed=0)
    model = Predictor.fit(architectures, planted(architectures, noise=0.01))
    again = Predictor(**json.loads(json.dumps(asdict(model))))
    assert [again.predict(a) for a in architectures] == [model.predict(a) for a in architectures]


def test_every_process_predicts_the_same_to_the_last_bit() -> None:
    """Strings are hashed with another salt in each process: no sum may go through a set of them."""
    program = """if True:
        import numpy as np
        from nas.estimate.predictor import Predictor, choices
        from nas.space.space import SearchSpace
        space = SearchSpace.load("full")
        random = np.random.default_rng(0)
        drawn = [space.sample(random) for _ in range(40)]
        model = Predictor.fit(drawn, random.normal(0.8, 0.1, (40, 2)))
        print([model.predict(a).hex() for a in drawn], [x.hex() for a in drawn for x in model.by_stage(a)])
    """
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(salt)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in (1, 2, 3)
    }
    assert len(said) == 1


def test_a_choice_that_no_training_had_adds_nothing(patterns: SearchSpace) -> None:
    model = Predictor(base=0.7, effects={"stage 1 pattern p1": 0.1}, num_trainings=24)
    with_it, without = landmark_in(patterns, "se-everywhere"), landmark_in(patterns, "plain")
    assert "stage 1 pattern p1" in choices(with_it)
    assert (model.predict(with_it), model.predict(without)) == (pytest.approx(0.8), 0.7)


def test_what_a_stage_adds_is_whole_where_its_choices_come_together(patterns: SearchSpace) -> None:
    """Whoever fuses stage 4 has an attention and a reduction there: no regression can tell their effects apart."""
    architectures = drawn(patterns, 60, seed=0)
    fused = np.array([a.canonical().stages[3].pattern != "none" for a in architectures])
    model = Predictor.fit(architectures, 0.7 + 0.03 * np.repeat(fused[:, None], 2, axis=1))
    assert max(model.effects.values()) < 0.01
    added = model.by_stage(landmark_in(patterns, "se-everywhere"))
    assert added == pytest.approx((0, 0, 0, 0.03), abs=0.001)
    assert model.by_stage(landmark_in(patterns, "plain")) == (0, 0, 0, 0)


def test_single_blocks_add_up() -> None:
    space = SearchSpace.load("blocks")
    architectures = drawn(space, 120, seed=0)
    random = np.random.default_rng(0)
    added = random.normal(0, 0.01, (4, 2))
    truth = np.array(
        [
            0.8 + sum(added[i, b] for i in range(4) for b in range(2) if a.stages[i].in_block(b).pattern != "none")
            for a in architectures
        ]
    )
    model = Predictor.fit(architectures[:40], truth[:40, None])
    assert [model.predict(a) for a in architectures[40:]] == pytest.approx(truth[40:], abs=0.002)


def test_equal_networks_have_equal_choices(patterns: SearchSpace) -> None:
    for architecture in drawn(patterns, 10, seed=1):
        assert choices(architecture) == choices(architecture.canonical())


def test_the_penalty_is_that_of_the_least_error_on_what_was_left_out() -> None:
    random = np.random.default_rng(0)
    x = random.integers(2, size=(30, 12)).astype(float)
    y = x @ random.normal(0, 1, 12) + random.normal(0, 1, 30)

    def solved(x: NDArray[np.float64], y: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
        centred = x - x.mean(0)
        return np.linalg.solve(centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ (y - y.mean()))

    def error(penalty: float) -> float:
        total = 0.0
        for i in range(len(y)):
            kept = np.arange(len(y)) != i
            weights = solved(x[kept], y[kept], penalty)
            total += float((y[i] - y[kept].mean() - (x[i] - x[kept].mean(0)) @ weights) ** 2)
        return total

    best = min(PENALTIES, key=error)
    assert _ridge(x - x.mean(0), y - y.mean()) == pytest.approx(solved(x, y, best), abs=1e-9)


def test_no_prediction_has_seen_the_training_that_it_is_held_against(patterns: SearchSpace) -> None:
    architectures = drawn(patterns, 24, seed=0)
    truth = planted(architectures, noise=0.01)
    before = held_out(architectures, truth)
    truth[5] += 0.5
    after = held_out(architectures, truth)
    same_part = [5, 15]  # ten parts: what is left out with it has not seen it either
    assert after[same_part] == pytest.approx(before[same_part], abs=1e-12)
    assert np.all(np.delete(after, same_part) != np.delete(before, same_part))


def test_what_is_told_of_predictions_is_what_they_are_worth_on_others(patterns: SearchSpace) -> None:
    told, true = [], []
    for seed in range(RUNS):
        architectures = drawn(patterns, 24 + 60, seed)
        truth = planted(architectures, noise=0.01, seed=seed)
        seen, others = architectures[:24], architectures[24:]
        told.append(float(spearman(held_out(seen, truth[:24]), truth[:24].mean(1))))
        model = Predictor.fit(seen, truth[:24])
        true.append(float(spearman(np.array([model.predict(a) for a in others]), truth[24:].mean(1))))
    assert np.mean(true) > 0.5
    assert abs(np.mean(told) - np.mean(true)) < 0.12


def test_noise_is_not_told_to_be_ranked(patterns: SearchSpace) -> None:
    random = np.random.default_rng(0)
    told = []
    for seed in range(RUNS):
        architectures = drawn(patterns, 24, seed)
        truth = random.normal(0.8, 0.01, (24, 3))
        told.append(float(spearman(held_out(architectures, truth), truth.mean(1))))
    assert -0.2 < np.mean(told) < 0.05  # to leave out what is good makes the rest worse: a little too low
