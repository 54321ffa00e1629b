"""Whether labels have to do with their images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from nas.training.config import DataConfig
from nas.training.data import labels as module
from nas.training.data import open_data
from nas.training.data.labels import check_labels, judge, looks
from nas.training.data.source import DataSource

SOURCES = ["digits", "noisy-digits", "cued-digits", "cluttered-digits"]


@pytest.fixture(scope="module", params=SOURCES)
def seen(request, tmp_path_factory):
    """Matrices and labels of a source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_NAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        images, labels = open_data(DataConfig(source=request.param, num_train=500)).sample(500)
    return looks(images), labels.numpy()


def test_real_labels_mean_something(seen):
    matrices, labels = seen
    check = judge(labels, matrices)
    assert not check.meaningless
    assert check.p == 0.01
    assert check.told > 2 * check.chance


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_are_dealt_out_anew_mean_nothing(seen, seed):
    matrices, labels = seen
    check = judge(np.random.default_rng(seed).permutation(labels), matrices)
    assert check.meaningless
    assert check.wrong_at_most is None
    assert check.text.startswith("labels agree with those of their nearest neighbours no more often than by chance (0.")
    assert "check data.source" in check.text


@pytest.fixture(scope="module")
def digits_seen():
    images, labels = open_data(DataConfig(num_train=600)).sample(600)
    return looks(images), labels.numpy()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.4])
def test_the_share_of_wrong_labels_is_bounded_where_images_are_easy_to_tell(digits_seen, share):
    matrices, labels = digits_seen
    random = np.random.default_rng(0)
    wrong = random.random(len(labels)) < share
    spoiled = np.where(wrong, (labels + random.integers(1, 10, len(labels))) % 10, labels)
    check = judge(spoiled, matrices)
    assert not check.meaningless
    assert wrong.mean() - 0.01 <= check.wrong_at_most <= wrong.mean() + 0.06


def test_unequal_classes_without_meaning_are_found_and_with_meaning_left_alone(digits_seen):
    """95 to 5: always guessing the larger class is right as often as real labels would be."""
    matrices, labels = digits_seen
    rare = np.flatnonzero(labels == 7)[:30]
    unequal = np.zeros(len(labels), np.int64)
    unequal[rare] = 1
    assert not judge(unequal, matrices).meaningless
    assert judge(np.random.default_rng(1).permutation(unequal), matrices).meaningless


def test_neighbours_and_regression_against_scikit_learn(digits_seen):
    images, labels = open_data(DataConfig(num_train=60)).sample(60)
    neighbours, regression = looks(images)
    flat = images.flatten(1).numpy()
    index = NearestNeighbors(n_neighbors=5).fit(flat).kneighbors(return_distance=False)
    agreement = (labels.numpy()[index] == labels.numpy()[:, None]).mean()
    check = judge(labels.numpy(), (neighbours, regression))
    assert check.agreement == pytest.approx(agreement)
    counts = np.bincount(labels)
    assert check.chance == pytest.approx(sum(n * (n - 1) for n in counts) / (60 * 59))
    features = module._features((images - images.mean()) / (images - images.mean()).std()).double().numpy()
    target = np.random.default_rng(0).standard_normal(60)
    target -= target.mean()
    one_out = []
    for i in range(60):
        rest = np.arange(60) != i
        ridge = Ridge(alpha=module.RIDGE * features.shape[1], solver="svd")
        one_out.append(ridge.fit(features[rest], target[rest]).predict(features[[i]])[0])
    given = regression.double().numpy() @ target
    assert np.corrcoef(given, one_out)[0, 1] > 0.99


class Given(DataSource):
    """Grey noise with labels of one's own."""

    def __init__(self, labels: list[int], num_classes: int = 10) -> None:
        summary = open_data(DataConfig(num_train=200)).summary
        super().__init__(replace(summary, class_names=tuple(map(str, range(num_classes)))))
        self.labels = torch.tensor(labels)

    def sample(self, count):
        return torch.rand(len(self.labels), 1, 8, 8), self.labels[:count]

    def _none(self, **_):
        raise NotImplementedError

    train_batches = val_batches = test_batches = _none


@pytest.mark.parametrize(
    ("labels", "num_classes"),
    [
        (list(range(10)) * 19, 10),  # few images
        (list(range(11)) * 19, 11),  # few of each class
        ([0] * 281 + [1] * 19, 2),  # few but of one class
        ([0] * 300, 2),
    ],
)
def test_too_few_images_say_nothing(labels, num_classes):
    assert check_labels(Given(labels, num_classes)) is None


def test_enough_images_say_something():
    assert check_labels(Given(list(range(10)) * 20)).meaningless
    assert check_labels(Given([0] * 280 + [1] * 20, 2)) is not None


def test_the_look_is_a_function_of_the_data_and_leaves_generators_alone():
    data = open_data(DataConfig(num_train=200))
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = check_labels(data)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    assert check_labels(open_data(DataConfig(num_train=200))) == first


def test_a_sample_is_of_training_images_with_their_labels(image_folder):
    for config in (
        DataConfig(num_train=50),
        DataConfig(source=f"folder:{image_folder}", image_size=16, augment=False),
        DataConfig(source=f"folder:{image_folder}", image_size=16, cache="off", augment=False),
    ):
        data = open_data(config)
        images, labels = data.sample(30)
        assert images.dtype == torch.float32
        assert (len(images), len(labels)) == (30, 30)
        assert images.shape[1] == data.in_chans
        whole, classes = data.sample(10_000)
        assert len(whole) == data.summary.num_train
        assert np.bincount(classes).tolist() == list(data.summary.class_counts)


def test_constant_images_say_that_labels_mean_nothing():
    matrices = looks(torch.full((200, 1, 8, 8), 7.0))
    assert judge(np.arange(200) % 10, matrices).meaningless
