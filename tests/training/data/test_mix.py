"""Mixed images and labels, and the loss that they train."""

import math

import pytest
import torch

from nas.architecture import Architecture, Backbone
from nas.measurement import Interrupted
from nas.training.config import DataConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.data.arrays import ArrayData
from nas.training.data.mix import Mix
from nas.training.module import CandidateModule
from nas.training.run import train

CPU = torch.device("cpu")


def mixed(mix, count, seed=0):
    random = torch.Generator().manual_seed(seed)
    images = torch.rand((count, 2, mix.side, mix.side), generator=random)
    labels = torch.randint(mix.num_classes, (count,), generator=random)
    drawn = mix.draw(torch.arange(count), random)
    return images, labels, drawn, *mix(images, labels, drawn)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_images_and_labels_are_mixed_one_by_one(mixup, cutmix):
    images, labels, drawn, new_images, new_labels = mixed(Mix(mixup, cutmix, 9, 5), 40)
    for i in range(40):
        share, *box = drawn[i].tolist()
        left, top, right, bottom = map(int, box)
        expected = images[i].clone()
        if (right - left) * (bottom - top) > 0:
            expected[:, top:bottom, left:right] = images[39 - i][:, top:bottom, left:right]
            assert share == pytest.approx(1 - (right - left) * (bottom - top) / 81)
        else:
            expected = share * images[i] + (1 - share) * images[39 - i]
        torch.testing.assert_close(new_images[i], expected)
        classes = [0.0] * 5
        classes[labels[i]] += share
        classes[labels[39 - i]] += 1 - share
        assert new_labels[i].tolist() == pytest.approx(classes, abs=1e-6)


def test_shares_follow_their_distributions():
    shares = Mix(2.0, 0.0, 9, 5).draw(torch.arange(5000), torch.Generator().manual_seed(0))[:, 0]
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(0.25 / 5, abs=0.005)  # of beta(2, 2)
    both = Mix(2.0, 1.0, 32, 5).draw(torch.arange(5000), torch.Generator().manual_seed(0))
    assert (both[:, 1:].sum(1) > 0).float().mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_soft_labels_by_hand(smoothing):
    logits = [[1.0, -0.5, 0.25], [0.0, 2.0, 0.5]]
    labels = [[0.7, 0.3, 0.0], [0.0, 0.1, 0.9]]
    config = TrainingConfig(label_smoothing=smoothing, channels_last=False)
    module = CandidateModule(torch.nn.Identity(), config, steps_per_epoch=1)
    loss = module.training_step((torch.tensor(logits), torch.tensor(labels)), 0)
    expected = 0.0
    for row, shares in zip(logits, labels, strict=True):
        norm = math.log(sum(map(math.exp, row)))
        smooth = [(1 - smoothing) * share + smoothing / 3 for share in shares]
        expected -= sum(share * (x - norm) for x, share in zip(row, smooth, strict=True)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def everything() -> ArrayData:
    augment = {"crop": "resized", "flip": 0.5, "color": 0.4, "erase": 0.5, "mixup": 0.2, "cutmix": 1.0}
    return open_data(DataConfig(num_train=120, augment=augment))


def epoch(data, seed, number, batch_size=32):
    batches = data.train_batches(batch_size=batch_size, seed=seed, on=CPU)
    torch.rand(3)  # other uses of the global generator play no part
    batches.set_epoch(number)
    pairs = list(batches)
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


def test_an_epoch_is_a_function_of_seed_and_number_alone(everything):
    images, labels = epoch(everything, 1, 2)
    assert images.shape == (120, 1, 8, 8)
    assert labels.shape == (120, 10)
    torch.testing.assert_close(labels.sum(1), torch.ones(120))
    assert all(torch.equal(a, b) for a, b in zip((images, labels), epoch(everything, 1, 2), strict=True))
    assert not torch.equal(images, epoch(everything, 1, 3)[0])
    assert not torch.equal(images, epoch(everything, 2, 2)[0])


def test_unmixed_images_do_not_depend_on_their_batch():
    data = open_data(DataConfig(num_train=120, augment={"crop": "resized", "color": 0.4, "erase": 0.5}))
    small, large = epoch(data, 0, 1, batch_size=17), epoch(data, 0, 1, batch_size=120)
    torch.testing.assert_close(small[0], large[0])
    assert torch.equal(small[1], large[1])


def test_validation_is_neither_mixed_nor_changed(everything):
    plain = open_data(DataConfig(num_train=120, augment=False))
    for mine, its in zip(
        everything.val_batches(batch_size=64, on=CPU), plain.val_batches(batch_size=64, on=CPU), strict=True
    ):
        assert torch.equal(mine[0], its[0])
        assert torch.equal(mine[1], its[1])


def test_mixed_training_goes_on_to_the_same_result(everything, tmp_path, monkeypatch):
    monkeypatch.setattr("nas.training.fit.CHECKPOINT_S", 0.0)
    micro = Architecture.plain(Backbone(name="resnet_micro", stem="small"), num_classes=10, in_chans=1)
    config = TrainingConfig(epochs=3, device="cpu", threads=1, label_smoothing=0.1)
    whole = train(micro, everything, config, seed=0)
    stop = iter([False] * 7 + [True] * 9)
    with pytest.raises(Interrupted):
        train(micro, everything, config, seed=0, checkpoint=tmp_path / "c", should_stop=lambda: next(stop))
    assert (tmp_path / "c").exists()
    rest = train(micro, everything, config, seed=0, checkpoint=tmp_path / "c")
    assert [e.train_loss for e in rest.epochs] == [e.train_loss for e in whole.epochs]
    assert [e.val_loss for e in rest.epochs] == [e.val_loss for e in whole.epochs]
