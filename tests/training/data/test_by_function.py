"""Data of a function of the user's: what it may return, and what is said where it returns something else."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data import open_data

HEAD = """
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

random = np.random.default_rng(0)
grey = random.integers(256, size=(60, 12, 12), dtype=np.uint8)
labels = np.arange(60) % 3

class Pictures(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return Image.fromarray(np.stack([grey[i]] * 3, 2)), int(labels[i])

def give():
    return """
SIZES = {"num_train": 36, "num_val": 12, "num_test": 12}


def source(folder: Path, returned: str) -> DataConfig:
    (folder / "mine.py").write_text(HEAD + returned + "\n")
    return DataConfig(source="python:mine.py:give").placed(folder)


@pytest.mark.parametrize(
    ("returned", "in_chans"),
    [
        ("grey, labels", 1),
        ("torch.from_numpy(grey)[:, None] / 255, torch.from_numpy(labels)", 1),
        ("TensorDataset(torch.from_numpy(grey)[:, None].float(), torch.from_numpy(labels))", 1),
        ("Pictures()", 3),
    ],
)
def test_what_it_may_return(tmp_path: Path, returned: str, in_chans: int) -> None:
    summary = open_data(source(tmp_path, returned)).summary
    assert {name: getattr(summary, name) for name in SIZES} == SIZES
    assert (summary.in_chans, summary.image_size, summary.class_names) == (in_chans, 12, ("0", "1", "2"))


def test_pixels_and_labels_are_those_that_were_given(tmp_path: Path) -> None:
    config = source(
        tmp_path, '{"train": (grey, labels), "val": (grey[:5], labels[:5]), "test": (grey[5:9], labels[5:9])}'
    )
    data = open_data(config)
    batches = data.val_batches(batch_size=5, on=torch.device("cpu"))
    images, found = next(iter(batches))
    pixels = (images / batches.scale + batches.mean).round().byte()
    grey = np.random.default_rng(0).integers(256, size=(60, 12, 12), dtype=np.uint8)
    assert np.array_equal(pixels[:, 0].numpy(), grey[:5])
    assert found.tolist() == [0, 1, 2, 0, 1]
    assert (data.summary.num_train, data.summary.num_test) == (60, 4)
    assert len(next(iter(data.test_batches(batch_size=4, on=torch.device("cpu"))))[1]) == 4


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("5", r"train: expected \(images, labels\) or a map-style data set, got int"),
        ("grey[:, :6], labels", r"expected square images .*, got \(60, 1, 6, 12\)"),
        ("grey.astype(np.int32), labels", "expected images of bytes or floats, got int32"),
        ("grey, labels[:7]", r"expected an integer label for each of 60 images, got int64 \(7,\)"),
        ("grey, labels / 2", "expected an integer label for each of 60 images, got float64"),
        ("grey, labels - 1", r"expected images whose labels count from 0, got \[.*-1"),
        ("np.where(labels[:, None, None] == 1, np.nan, grey), labels", "holds values that are not finite"),
        ('{"training": (grey, labels)}', "expected the parts train, val, test, got training"),
        ('{"val": (grey, labels)}', "expected the parts train, val, test, got no train"),
        ("[grey[0], grey[1, :5]], [0, 1]", "reading the train part failed: ValueError: "),
        ("nothing", "give failed: NameError: name 'nothing' is not defined"),
    ],
)
def test_something_else_is_refused_in_one_line(tmp_path: Path, returned: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as refused:
        open_data(source(tmp_path, returned))
    assert "\n" not in str(refused.value)
    assert "mine.py:give" in str(refused.value)


def test_what_is_wrong_with_an_item_is_told_as_it_is(tmp_path: Path) -> None:
    config = source(tmp_path, "[(grey[0], 0), (grey[1, :5], 1), (grey[2], 2)]")
    with pytest.raises(DataError, match=r"^python:.*mine\.py:give: train: image 1 is \(5, 12\), those before it are"):
        open_data(config)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("python:no_such_package.data:give", "import of no_such_package.data failed: ModuleNotFoundError"),
        ("python:json:give", "json has no function 'give'"),
        ("python:nowhere.py:give", "no such file: nowhere.py"),
    ],
)
def test_a_function_that_is_not_there(name: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_data(DataConfig(source=name))


@pytest.mark.parametrize("name", ["python:mine", "python::give", "python:mine:"])
def test_a_source_that_names_no_function(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected python:package\.module:function"):
        DataConfig(source=name)


def test_modules_have_no_place_and_files_have(tmp_path: Path) -> None:
    assert DataConfig(source="python:package.module:give").placed(tmp_path).source == "python:package.module:give"
    assert DataConfig(source="python:sub/mine.py:give").placed(tmp_path).source == f"python:{tmp_path}/sub/mine.py:give"


@pytest.mark.parametrize(("balanced", "counts"), [(False, (10, 2)), (True, (6, 6))])
def test_a_subset_keeps_the_classes_shares_unless_asked_otherwise(
    tmp_path: Path, balanced: bool, counts: tuple[int, int]
) -> None:
    config = source(tmp_path, "grey, (np.arange(60) % 6 == 0).astype(int)")
    summary = open_data(config.model_copy(update={"num_train": 12, "balanced": balanced})).summary
    assert summary.class_counts == counts
