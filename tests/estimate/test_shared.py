import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

from nas.architecture import Architecture, Backbone, NormName
from nas.errors import UserError
from nas.estimate.brief import brief_config
from nas.estimate.config import EstimateConfig
from nas.estimate.shared_ensemble import mean_score, train_ensemble
from nas.estimate.shared_scoring import SharedScore, SharedScorer, weights_digest
from nas.estimate.shared_training import fair_paths, shared_digest, train_shared
from nas.estimate.supernet import SharedNetwork
from nas.fusion.models import build_model
from nas.measurement import EpochRecord, Interrupted
from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace
from nas.training.config import TrainingConfig
from nas.training.data.source import DataSource


def unsettle(network: nn.Module) -> None:
    """Give every weight and statistic a value of its own, so that no mix-up goes unseen."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))


def full_on(backbone: str) -> SearchSpace:
    return SearchSpace.load("full").on(backbone=Backbone(name=backbone, stem="small"))


@pytest.mark.parametrize(("backbone", "norm"), [("resnet_micro", "batch"), ("resnet14t", "group")])
def test_a_path_equals_the_stand_alone_network(backbone: str, norm: NormName) -> None:
    space = dataclasses.replace(full_on(backbone), norm=("batch", "group"))
    network = SharedNetwork(space, norm)
    unsettle(network)
    network.eval()
    images = torch.randn(2, 3, 16, 16)
    random = np.random.default_rng(0)
    for _ in range(50):
        architecture = space.sample(random).model_copy(update={"norm": norm})
        with torch.device("meta"):  # without weights of its own
            alone = build_model(architecture)
        alone.load_state_dict(network.extract(architecture), strict=True, assign=True)
        with torch.no_grad():
            torch.testing.assert_close(network(images), alone.eval()(images), rtol=0, atol=0)


def test_a_path_through_single_blocks_equals_the_stand_alone_network(deep_micro: None) -> None:
    space = dataclasses.replace(full_on("resnet_micro"), granularity="block")
    network = SharedNetwork(space, "batch")
    unsettle(network)
    network.eval()
    images = torch.randn(2, 3, 16, 16)
    random = np.random.default_rng(0)
    drawn = [space.sample(random) for _ in range(30)]
    assert sum(stage.blocks is not None for architecture in drawn for stage in architecture.stages) > 30
    for architecture in drawn:
        with torch.device("meta"):  # without weights of its own
            alone = build_model(architecture)
        alone.load_state_dict(network.extract(architecture), strict=True, assign=True)
        with torch.no_grad():
            torch.testing.assert_close(network(images), alone.eval()(images), rtol=0, atol=0)


def test_a_path_trains_as_the_stand_alone_network_does() -> None:
    space = full_on("resnet_micro")
    network = SharedNetwork(space, "batch")
    unsettle(network)
    images = torch.randn(4, 3, 8, 8)
    random = np.random.default_rng(1)
    for _ in range(10):
        architecture = space.sample(random)
        alone = build_model(architecture)
        alone.load_state_dict(network.extract(architecture))
        for model in (network, alone):
            model.zero_grad()
            model.train()(images).square().sum().backward()
        wanted = {n: p.grad for n, p in alone.named_parameters()}
        trained = [p.grad for p in network.parameters() if p.grad is not None]
        assert len(trained) == len(wanted)
        for name in ("conv1.weight", "layer2.0.conv2.weight", "fc.weight"):
            torch.testing.assert_close(network.network.get_parameter(name).grad, wanted[name], rtol=0, atol=0)
        after = network.extract(architecture)
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(after[key], value, rtol=0, atol=0)


def test_a_fresh_path_starts_as_a_stand_alone_network_does() -> None:
    """Constants, open gates and strengths are equal at the start; random weights have the same spread."""
    space = full_on("resnet_micro")
    network = SharedNetwork(space, "batch")
    random = np.random.default_rng(2)
    for _ in range(10):
        architecture = space.sample(random)
        state = network.extract(architecture)
        for key, value in build_model(architecture).state_dict().items():
            if value.is_floating_point() and value.numel() >= 64:
                torch.testing.assert_close(state[key].std(), value.std(), rtol=0.5, atol=0.02)
            elif value.is_floating_point() and value.numel() == 1:
                torch.testing.assert_close(state[key], value, rtol=0, atol=1.5 if "conv" in key else 0)


def test_architectures_share_what_they_agree_in() -> None:
    space = full_on("resnet_micro")
    network = SharedNetwork(space, "batch")
    random = np.random.default_rng(3)
    one = space.sample(random)
    states = []
    for value in (0.1, 0.5):
        stages = tuple(
            stage.model_copy(update={"pattern": "p1", "attention": "se", "lambda_init": value, "learnable": False})
            for stage in one.stages
        )
        states.append(network.extract(one.model_copy(update={"stages": stages})))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_landmarks_outside_the_space_are_no_paths(space: SearchSpace) -> None:
    network = SharedNetwork(space, "batch")
    assert network.holds(landmark_in(space, "se-everywhere"))
    outside = landmark_in(space, "cbam-everywhere")
    assert not network.holds(outside)
    with pytest.raises(UserError, match=rf"architecture {outside.digest} .*space 'patterns' with norm batch"):
        network.set_path(outside)
    with pytest.raises(UserError, match="does not hold it"):
        network.set_path(Architecture.plain(space.backbone, num_classes=10, in_chans=1, norm="group"))


def test_every_option_of_a_question_comes_equally_often(space: SearchSpace) -> None:
    paths = list(itertools.islice(fair_paths(space, seed=1, epoch=0), 25))
    for stage in range(4):
        assert set(Counter(path.stages[stage].pattern for path in paths).values()) == {5}
    assert paths[:7] == list(itertools.islice(fair_paths(space, seed=1, epoch=0), 7))
    assert paths[:7] != list(itertools.islice(fair_paths(space, seed=1, epoch=1), 7))


def test_training_goes_on_exactly_where_it_stopped(
    space: SearchSpace, data: DataSource, training: TrainingConfig, tmp_path: Path
) -> None:
    whole = train_shared(space, "batch", data, training, seed=0)
    path = tmp_path / "shared.ckpt"

    class Crash(Exception):
        pass

    def crash(record: EpochRecord) -> None:
        raise Crash

    with pytest.raises(Crash):
        train_shared(space, "batch", data, training, seed=0, checkpoint=path, on_epoch=crash)
    resumed = train_shared(space, "batch", data, training, seed=0, checkpoint=path)
    loaded = train_shared(space, "batch", data, training, seed=0, checkpoint=path)
    assert whole.digest == resumed.digest == loaded.digest
    for other in (resumed, loaded):
        assert [e.train_loss for e in other.epochs] == [e.train_loss for e in whole.epochs]
        for one, two in zip(whole.network.parameters(), other.network.parameters(), strict=True):
            assert torch.equal(one, two)
    scores = [SharedScorer(t, data).score(landmark_in(space, "plain")) for t in (whole, loaded)]
    assert scores[0] == scores[1]


def test_a_checkpoint_of_something_else_is_refused(
    space: SearchSpace, data: DataSource, training: TrainingConfig, tmp_path: Path
) -> None:
    path = tmp_path / "shared.ckpt"
    training = training.model_copy(update={"epochs": 1})
    train_shared(space, "batch", data, training, seed=0, checkpoint=path)
    other = SearchSpace.load("full").on(in_chans=1)
    with pytest.raises(UserError, match=rf"another search space: expected space {other.digest}, got {space.digest}"):
        train_shared(other, "batch", data, training, seed=0, checkpoint=path)
    with pytest.raises(UserError, match="other data, training or another seed"):
        train_shared(space, "batch", data, training, seed=1, checkpoint=path)


def test_a_score_depends_on_the_architecture_alone(
    space: SearchSpace, data: DataSource, training: TrainingConfig
) -> None:
    trained = train_shared(space, "batch", data, training, seed=0)
    scorer = SharedScorer(trained, data, norm_images=64)
    a, b = landmark_in(space, "plain"), landmark_in(space, "se-post")
    before = trained.network.state_dict()
    weights = {key: value.clone() for key, value in before.items() if "running" not in key and "num_" not in key}
    first = scorer.score(a)
    assert scorer.score(b) != first
    assert scorer.score(a) == first
    assert all(torch.equal(weights[key], trained.network.state_dict()[key]) for key in weights)


def test_what_is_kept_of_the_first_stages_changes_no_score(
    space: SearchSpace, data: DataSource, training: TrainingConfig
) -> None:
    trained = train_shared(space, "batch", data, training, seed=0)
    random = np.random.default_rng(0)
    architectures = [space.sample(random) for _ in range(12)]
    kept, cramped, alone = (
        [scorer.score(a) for a in order]
        for scorer, order in (
            (SharedScorer(trained, data, norm_images=64), architectures),
            (SharedScorer(trained, data, norm_images=64, cache_bytes=2_000_000), architectures),
            (SharedScorer(trained, data, norm_images=64, cache_bytes=0), architectures[::-1]),
        )
    )
    assert kept == cramped == alone[::-1]
    assert len({score.loss for score in kept}) > 8


def test_a_digest_tells_weights_apart_by_a_bit(space: SearchSpace, data: DataSource, training: TrainingConfig) -> None:
    network = train_shared(space, "batch", data, training, seed=0).network
    before = weights_digest(network)
    with torch.no_grad():
        network.network.fc.bias[0] = torch.nextafter(network.network.fc.bias[0], torch.tensor(9.0))
    assert weights_digest(network) != before


def test_norms_are_estimated_as_the_mean_over_the_stream(
    space: SearchSpace, data: DataSource, training: TrainingConfig
) -> None:
    trained = train_shared(space, "batch", data, training, seed=0)
    plain = landmark_in(space, "plain")
    SharedScorer(trained, data, batch_size=32, norm_images=64).score(plain)
    stream = itertools.islice(data.train_batches(batch_size=32, seed=0, on=torch.device("cpu")), 2)
    network = trained.network.network
    with torch.no_grad():
        means = torch.stack([network.conv1(images).mean((0, 2, 3)) for images, _ in stream])
    torch.testing.assert_close(network.bn1.running_mean, means.mean(0))


def test_the_mean_of_two_scores_has_the_digest_of_both() -> None:
    one = SharedScore(network="a", accuracy=0.5, loss=1.0)
    two = SharedScore(network="b", accuracy=0.7, loss=2.0)
    mean = mean_score([one, two])
    assert (mean.accuracy, mean.loss) == pytest.approx((0.6, 1.5))
    assert mean.network == mean_score([two, one]).network
    assert mean.network not in ("a", "b")


def test_single_blocks_are_scored_from_norms_of_their_own(
    deep_micro: None, data: DataSource, training: TrainingConfig
) -> None:
    space = SearchSpace.load("blocks").on(backbone=Backbone(name="resnet_micro", stem="small"), in_chans=1)
    scorer = SharedScorer(train_shared(space, "batch", data, training, seed=0), data)
    scores = {a.digest: scorer.score(a).loss for a in space.architectures() if a.stages[0].is_off}
    assert len(scores) == 2 ** (1 + 3 + 2)
    assert len(set(scores.values())) > len(scores) / 2


def test_the_digest_knows_all_that_decides_the_weights(space: SearchSpace, training: TrainingConfig) -> None:
    digests = {
        shared_digest(space, "batch", "f", training, 0),
        shared_digest(space, "group", "f", training, 0),
        shared_digest(SearchSpace.load("cautious"), "batch", "f", training, 0),
        shared_digest(space, "batch", "g", training, 0),
        shared_digest(space, "batch", "f", training.model_copy(update={"epochs": 9}), 0),
        shared_digest(space, "batch", "f", training, 1),
    }
    assert len(digests) == 6
    assert shared_digest(space, "batch", "f", training.model_copy(update={"threads": 7}), 0) in digests


def test_an_ensemble_is_trained_once_and_scores_by_the_mean(
    data: DataSource, training: TrainingConfig, tmp_path: Path
) -> None:
    space = dataclasses.replace(SearchSpace.load("patterns").on(in_chans=1), norm=("batch", "group"))
    config = EstimateConfig(epochs=1, networks=2, norm_images=64)
    epochs: list[EpochRecord] = []
    first, again = (
        train_ensemble(space, data, training, config, seed=5, folder=tmp_path, on_epoch=epochs.append) for _ in range(2)
    )
    assert len(epochs) == len(list(tmp_path.glob("shared-*.ckpt"))) == 4
    plain = landmark_in(space, "plain")
    assert first.score(plain) == again.score(plain)
    alone = train_shared(space, "batch", data, brief_config(training, 1), seed=5)
    other = train_shared(space, "batch", data, brief_config(training, 1), seed=6)
    scores = [SharedScorer(trained, data, norm_images=64).score(plain) for trained in (alone, other)]
    assert first.score(plain).loss == pytest.approx(np.mean([score.loss for score in scores]))
    grouped = plain.model_copy(update={"norm": "group"})
    assert first.score(grouped).network == first.score(plain).network == first.digest
    assert first.holds(grouped)
    assert not first.holds(landmark_in(space, "cbam-everywhere"))


def test_a_network_that_another_process_trains_is_waited_for(
    space: SearchSpace, data: DataSource, training: TrainingConfig, tmp_path: Path
) -> None:
    config = EstimateConfig(epochs=1, networks=1)
    digest = shared_digest(space, "batch", data.fingerprint, brief_config(training, 1), 0)
    asked: list[int] = []
    with FileLock(tmp_path / f"shared-{digest}.lock"), pytest.raises(Interrupted):
        train_ensemble(
            space,
            data,
            training,
            config,
            seed=0,
            folder=tmp_path,
            should_stop=lambda: len(asked) > 1 or bool(asked.append(1)),
        )
    assert not list(tmp_path.glob("*.ckpt"))
