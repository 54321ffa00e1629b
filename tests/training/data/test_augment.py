"""What the study file says about augmentation, and what it comes to."""

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from nas.errors import DataError, UserError
from nas.training.augment_config import AugmentConfig
from nas.training.config import DataConfig
from nas.training.data import open_data
from nas.training.data.augment import CROP_RATIO, Augmentation, augmentation_of

CPU = torch.device("cpu")
NONE = Augmentation(crop="none")


def test_the_ratio_is_torchvisions():
    assert RandomResizedCrop(8).ratio == pytest.approx(CROP_RATIO)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, Augmentation(crop="pad")),
        ({"source": "torch/KMNIST:/x"}, Augmentation(crop="pad")),
        ({"source": "fashion-mnist"}, Augmentation(crop="pad", flip=0.5)),
        ({"source": "torch/cifar100:/x"}, Augmentation(crop="pad", flip=0.5)),
        ({"source": "folder:/x"}, Augmentation(crop="resized", flip=0.5, color=0.4)),
        ({"source": "wds/x:/y"}, Augmentation(crop="resized", flip=0.5, color=0.4)),
        ({"recipe": "cifar"}, Augmentation(crop="pad", flip=0.5)),
        ({"augment": True}, Augmentation(crop="pad")),
        ({"augment": {}}, Augmentation(crop="pad")),
        ({"augment": False}, NONE),
        ({"augment": {"crop": "pad"}}, Augmentation(crop="pad", smallest_shifted=8)),
        ({"recipe": "cifar", "augment": {"flip": 0, "mixup": 0.2}}, Augmentation(crop="pad", mixup=0.2)),
        ({"source": "folder:/x", "augment": {"crop": "none", "color": 0}}, Augmentation(flip=0.5)),
        (
            {"source": "folder:/x", "augment": {"randaugment": "rand-m10-n3"}},
            Augmentation(crop="resized", flip=0.5, color=0, randaugment=(10, 3)),
        ),
        (
            {"recipe": "cifar", "augment": {"randaugment": "rand-m0-n1", "color": 0.1}},
            Augmentation(crop="pad", flip=0.5, color=0.1, randaugment=(0, 1)),
        ),
    ],
)
def test_the_recipe_and_what_stands_beside_it(content, expected):
    config = DataConfig.parse(content, "s.yaml")
    assert augmentation_of(config) == expected
    assert DataConfig.parse(config.model_dump(mode="json"), "stored") == config


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"augment": True, "flip": None}, Augmentation(crop="pad")),
        ({"augment": True, "flip": 0.3}, Augmentation(crop="pad", flip=0.3)),
        ({"flip": 0.3}, Augmentation(crop="pad", flip=0.3)),
        ({"augment": False, "flip": 0.3}, NONE),
    ],
)
def test_older_files_go_on_meaning_what_they_did(content, expected):
    assert augmentation_of(DataConfig.parse(content, "s.yaml")) == expected


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"augment": {"crop": "middle"}}, "augment.crop: input should be 'pad', 'resized' or 'none', got 'middle'"),
        (
            {"augment": {"zoom": 1}},
            "augment.zoom: unknown key; known: crop, flip, color, randaugment, erase, mixup, cutmix",
        ),
        ({"augment": {"erase": 2}}, "augment.erase: input should be less than or equal to 1, got 2"),
        ({"augment": {"mixup": -1}}, "augment.mixup: input should be greater than or equal to 0, got -1"),
        ({"augment": {"randaugment": "rand-m11-n2"}}, "augment.randaugment: expected rand-mM-nN with M from 0 to 10"),
        (
            {"augment": {"randaugment": "m9"}},
            "augment.randaugment: expected rand-mM-nN with M from 0 to 10 and N from 1",
        ),
        ({"augment": "much"}, "augment: expected true, false or a mapping of keys, got 'much'"),
        ({"flip": 2}, "augment.flip: input should be less than or equal to 1, got 2"),
        ({"flip": 0.2, "augment": {"flip": 0.1}}, "flip: 0.2 stands beside augment; expected it as augment.flip"),
        ({"recipe": "cifar", "augment": False}, "recipe: cifar has no effect beside augment: false; leave one of them"),
        ({"recipe": "mnist"}, "recipe: input should be 'digits', 'cifar' or 'imagenet', got 'mnist'"),
    ],
)
def test_bad_augmentation_is_one_line(content, fault):
    with pytest.raises(UserError) as caught:
        DataConfig.parse(content, "s.yaml")
    assert str(caught.value).startswith(f"s.yaml: {fault}")


def test_small_images_are_shifted_only_where_that_is_asked_for():
    assert [Augmentation(crop="pad").shift(side) for side in (8, 15, 16, 33)] == [0, 0, 2, 4]
    assert [augmentation_of(DataConfig(augment={"crop": "pad"})).shift(side) for side in (7, 8)] == [0, 1]
    assert Augmentation(crop="none").shift(32) == 0


@pytest.mark.parametrize(
    ("augment", "fault"),
    [
        ({"crop": "pad"}, "data.augment.crop: images that are decoded while they are used take resized, .*; got pad"),
        ({"crop": "none", "flip": 0.5}, "data.augment.crop: images that are decoded .*; got none"),
        (
            {"randaugment": "rand-m9-n2"},
            "data.augment.randaugment: not possible for images .*; expected none, got rand-m9-n2",
        ),
        ({"erase": 0.25}, "data.augment.erase: not possible for images .*; expected 0, got 0.25"),
        ({"mixup": 0.2}, "data.augment.mixup: not possible for images .*; expected 0, got 0.2"),
        ({"cutmix": 1}, "data.augment.cutmix: not possible for images .*; expected 0, got 1"),
    ],
)
def test_what_image_files_cannot_have_is_refused(image_folder, augment, fault):
    with pytest.raises(DataError, match=fault):
        open_data(DataConfig(source=f"folder:{image_folder}", image_size=16, cache="off", augment=augment))


def test_grey_image_files_keep_their_values(image_folder):
    with pytest.raises(DataError, match=r"data\.augment\.color: grey images .*; expected 0, got 0.1"):
        open_data(
            DataConfig(source=f"folder:{image_folder}", image_size=16, in_chans=1, cache="off", augment={"color": 0.1})
        )


def test_image_files_without_augmentation_are_those_of_validation(image_folder):
    data = open_data(DataConfig(source=f"folder:{image_folder}", image_size=16, augment=AugmentConfig.none()))
    first, again = (list(data.train_batches(batch_size=8, seed=seed, on=CPU)) for seed in (0, 1))
    assert {x.numpy().tobytes() for xs, _ in first for x in xs} == {x.numpy().tobytes() for xs, _ in again for x in xs}
