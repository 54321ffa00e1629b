"""A run that is resumed equals one that was never interrupted."""

from dataclasses import replace

import pytest
import torch

from nas.fusion.models import build_model
from nas.measurement import Interrupted, Outcome
from nas.training import fit
from nas.training.checkpoint import Checkpoint, CheckpointError, load_weights
from nas.training.run import train


@pytest.fixture(autouse=True)
def kept_after_every_epoch(monkeypatch):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0.0)


@pytest.fixture
def config(brief):
    return brief.model_copy(update={"epochs": 3})


def scores(measurement):
    return [replace(epoch, train_s=0, val_s=0) for epoch in measurement.epochs]


def interrupted_after(epochs, *args, **more):
    done = []

    def on_epoch(epoch):
        done.append(epoch)

    with pytest.raises(Interrupted):
        train(*args, **more, on_epoch=on_epoch, should_stop=lambda: len(done) == epochs)


def weights(path):
    return Checkpoint.load(path).model


@pytest.mark.parametrize("epochs", [1, 2])
def test_resuming_is_bitwise_exact(micro, digits, config, tmp_path, epochs):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    expected = train(micro, digits, config, seed=5, checkpoint=whole)
    interrupted_after(epochs, micro, digits, config, seed=5, checkpoint=parted)
    torch.manual_seed(99)
    seen = []
    resumed = train(micro, digits, config, seed=5, checkpoint=parted, on_epoch=seen.append)
    assert scores(resumed) == scores(expected)
    assert [epoch.epoch for epoch in seen] == list(range(epochs, 3)), "finished epochs are not told again"
    first, second = weights(whole), weights(parted)
    assert all(torch.equal(first[key], second[key]) for key in first)
    generators = [Checkpoint.load(path).generators["torch"] for path in (whole, parted)]
    assert torch.equal(*generators)


def test_a_run_is_kept_when_it_is_due_and_where_it_ends(micro, digits, config, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 3600.0)
    whole, parted, stopped = tmp_path / "whole", tmp_path / "parted", tmp_path / "stopped"
    expected = train(micro, digits, config, seed=5, checkpoint=whole)
    assert Checkpoint.load(whole).records == expected.epochs
    interrupted_after(2, micro, digits, config, seed=5, checkpoint=parted)
    assert not parted.exists(), "an hour had not passed"
    seen = []
    repeated = train(micro, digits, config, seed=5, checkpoint=parted, on_epoch=seen.append)
    assert [epoch.epoch for epoch in seen] == [0, 1, 2], "epochs that were not kept are told again"
    assert scores(repeated) == scores(expected)
    train(micro, digits, config, seed=5, checkpoint=stopped, on_epoch=lambda _: "asha")
    assert len(Checkpoint.load(stopped).records) == 1


def test_a_finished_checkpoint_gives_its_measurement_at_once(micro, digits, config, tmp_path):
    path = tmp_path / "c"
    expected = train(micro, digits, config, seed=5, checkpoint=path)
    again = train(micro, digits, config, seed=5, checkpoint=path, should_stop=lambda: True)
    assert (again.outcome, scores(again)) == (Outcome.COMPLETE, scores(expected))


def test_weights_can_be_loaded_into_an_ordinary_network(micro, digits, config, tmp_path):
    path = tmp_path / "c"
    measured = train(micro, digits, config, seed=5, checkpoint=path)
    model = build_model(micro).eval()
    load_weights(path, model)
    with torch.no_grad():
        batches = digits.val_batches(batch_size=64, on=torch.device("cpu"))
        correct = sum((model(x).argmax(1) == y).sum().item() for x, y in batches)
    assert correct / digits.summary.num_val == measured.score
    other = build_model(micro.model_copy(update={"num_classes": 3}))
    with pytest.raises(CheckpointError, match=r"c: the weights belong to another network: .*fc\.weight"):
        load_weights(path, other)


def test_another_run_is_refused(micro, digits, config, tmp_path):
    path = tmp_path / "c"
    interrupted_after(1, micro, digits, config, seed=5, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"c: belongs to another run \(different seed\)"):
        train(micro, digits, config, seed=6, checkpoint=path)
    longer = config.model_copy(update={"epochs": 4})
    with pytest.raises(CheckpointError, match=r"different training"):
        train(micro, digits, longer, seed=5, checkpoint=path)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-9] + b"x" + b[-8:], lambda b: b""])
def test_a_damaged_file_is_named(micro, digits, config, tmp_path, damage):
    path = tmp_path / "c"
    interrupted_after(1, micro, digits, config, seed=5, checkpoint=path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"c: not a whole checkpoint of this version; remove it to start over"):
        train(micro, digits, config, seed=5, checkpoint=path)


def test_writing_leaves_no_other_file(micro, digits, config, tmp_path):
    train(micro, digits, config, seed=5, checkpoint=tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["c"]


def test_a_run_that_was_stopped_can_go_on_as_if_it_had_not_been(micro, digits, config, tmp_path):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    expected = train(micro, digits, config, seed=5, checkpoint=whole)
    stopped = train(micro, digits, config, seed=5, checkpoint=parted, on_epoch=lambda _: "asha")
    assert (stopped.outcome, stopped.reason, len(stopped.epochs)) == (Outcome.STOPPED, "asha", 1)
    seen = []
    resumed = train(micro, digits, config, seed=5, checkpoint=parted, on_epoch=seen.append)
    assert (resumed.outcome, scores(resumed)) == (Outcome.COMPLETE, scores(expected))
    assert [epoch.epoch for epoch in seen] == [0, 1, 2], "the epoch of the stop is judged again"
    first, second = weights(whole), weights(parted)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_that_is_still_to_stop_trains_nothing(micro, digits, config, tmp_path):
    path = tmp_path / "c"
    stopped = train(micro, digits, config, seed=5, checkpoint=path, on_epoch=lambda _: "asha")
    again = train(micro, digits, config, seed=5, checkpoint=path, on_epoch=lambda _: "asha", should_stop=lambda: True)
    assert (again.outcome, again.reason, scores(again)) == (Outcome.STOPPED, "asha", scores(stopped))
