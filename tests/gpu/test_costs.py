"""Latency, shared networks and turns on a GPU."""

import math

import pytest
import torch

from nas.architecture import Architecture
from nas.estimate.shared_scoring import SharedScorer
from nas.estimate.shared_training import train_shared
from nas.fusion.cost import compare_cost
from nas.fusion.models import build_model
from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace
from nas.training.config import Precision, TrainingConfig
from nas.training.data.source import DataSource
from nas.training.pace import measure_pace
from nas.training.turns import Turns

from . import on_gpu

pytestmark = on_gpu


def test_latency_is_measured_beside_the_plain_network(fused: Architecture) -> None:
    found = compare_cost(fused, image_size=32, batch=8, device="cuda", repeats=10)
    for cost in (found.fused, found.plain):
        assert cost.latency_low_ms is not None
        assert cost.latency_ms is not None
        assert cost.latency_high_ms is not None
        assert 0 < cost.latency_low_ms <= cost.latency_ms <= cost.latency_high_ms
    assert all(math.isfinite(ratio) for ratio in found.ratios.values())


def test_a_device_can_be_taken_in_turns() -> None:
    turns = Turns("cuda:0")
    with turns.together() as give_way:
        give_way()
    with turns.alone():
        assert torch.cuda.is_available()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_the_pace_is_measured(fused: Architecture, digits: DataSource, precision: Precision) -> None:
    pace = measure_pace(fused, digits, TrainingConfig(precision=precision), limit_s=0.2)
    assert pace.device == "cuda"
    assert pace.train > 0
    assert pace.val > 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_shared_network_is_trained_and_scores(digits: DataSource, brief: TrainingConfig, precision: str) -> None:
    space = SearchSpace.load("patterns").on(in_chans=1)
    config = brief.model_copy(update={"precision": precision})
    trained = train_shared(space, "batch", digits, config, seed=0)
    scorer = SharedScorer(trained, digits)
    plain = landmark_in(space, "plain")
    assert next(scorer.network.parameters()).is_cuda
    assert scorer.score(plain) == scorer.score(plain)
    alone = build_model(plain).to("cuda", memory_format=torch.channels_last).eval()
    alone.load_state_dict(scorer.network.extract(plain))
    images = torch.randn(4, *digits.input_size, device="cuda").to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        torch.testing.assert_close(scorer.network(images), alone(images), rtol=1e-3, atol=1e-3)
