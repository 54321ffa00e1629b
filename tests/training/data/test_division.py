"""How a folder is divided, and what its fingerprint sees; studies of an older version read as it did."""

import numpy as np
import pytest

from nas.study.config import StudyConfig
from nas.training.config import DataConfig
from nas.training.data.division import list_folder
from nas.training.data.listing import list_images


def write(root, counts, first=0):
    """Files that nobody decodes, no two of a class of one size."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            (root / name / f"{number}.png").write_bytes(b"x" * (10 + number))
    return root


def config(root, **more):
    return DataConfig(source=f"folder:{root}", image_size=16, **more)


def members(listed):
    return {part: {file.name for file in files.files} for part, files in listed.parts.items()}


def sizes(root, **more):
    summary = list_folder(config(root, **more)).summary
    return summary.num_train, summary.num_val, summary.num_test


def test_each_class_is_divided(tmp_path):
    listed = list_folder(config(write(tmp_path, {"cat": 50, "dog": 10, "one": 1})))
    parts = members(listed)
    assert {part: len(names) for part, names in parts.items()} == {"train": 37, "val": 12, "test": 12}
    assert not parts["train"] & (parts["val"] | parts["test"])
    assert listed.summary.class_counts == (30, 6, 1), "an only image is trained on"
    assert listed.summary.class_names == ("cat", "dog", "one")
    other = members(list_folder(config(tmp_path, split_seed=1)))
    assert other["val"] != parts["val"]


def test_a_file_more_moves_at_most_the_boundaries_of_its_class(tmp_path):
    before = list_folder(config(write(tmp_path, {"cat": 50, "dog": 50})))
    write(tmp_path, {"cat": 1}, first=50)
    after = list_folder(config(tmp_path))
    for part in ("train", "val", "test"):
        moved = members(before)[part] - members(after)[part]
        assert all(name.startswith("cat/") for name in moved)
        assert len(moved) <= 1
    assert before.summary.fingerprint != after.summary.fingerprint


def test_a_file_that_is_named_broken_moves_no_other(tmp_path):
    """Class sizes at which removing it would move a boundary are among these."""
    before = list_folder(config(write(tmp_path, {f"{count}": count for count in range(8, 30)})))
    for part in ("test", "val", "train"):
        for file in before.parts[part].files[::7]:
            (tmp_path / file.name).rename(tmp_path / f"{file.name}.broken")
            after = list_folder(config(tmp_path))
            gone = {name: members(before)[name] - members(after)[name] for name in members(before)}
            assert gone == {"train": set(), "val": set(), "test": set(), part: {file.name}}
            assert not any(members(after)[name] - members(before)[name] for name in gone)
            assert (before.summary.fingerprint == after.summary.fingerprint) == (part == "test")
            assert after.summary.notes == ("left out: 1 broken images",)
            (tmp_path / f"{file.name}.broken").rename(tmp_path / file.name)


def test_broken_files_of_a_divided_folder_are_left_out(tmp_path):
    for part in ("train", "val", "test"):
        write(tmp_path / part, {"cat": 4, "dog": 4})
    for part in ("train", "val", "test"):
        (tmp_path / part / "cat" / "1.png").rename(tmp_path / part / "cat" / "1.png.broken")
    assert sizes(tmp_path) == (7, 7, 7)
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"repaired")
    assert sizes(tmp_path) == (8, 7, 7)


def test_the_fingerprint_is_of_what_is_used(tmp_path):
    for part, count in (("train", 10), ("val", 4), ("test", 4)):
        write(tmp_path / part, {"cat": count, "dog": count})

    def fingerprint(**more):
        return list_folder(config(tmp_path, **more)).summary.fingerprint

    before = fingerprint()
    (tmp_path / "test" / "cat" / "0.png").unlink()
    assert fingerprint() == before
    assert fingerprint(in_chans=1) != before
    (tmp_path / "val" / "cat" / "0.png").write_bytes(b"y" * 99)
    changed = fingerprint()
    assert changed != before
    (tmp_path / "train" / "cat" / "0.png").rename(tmp_path / "train" / "dog" / "77.png")
    assert fingerprint() not in (before, changed)


def test_a_subset_keeps_the_shares_unless_it_is_to_be_balanced(tmp_path):
    for part in ("train", "val"):
        write(tmp_path / part, {"often": 80, "rare": 20, "once": 1})

    def counts(**more):
        return list_folder(config(tmp_path, val_is="val", **more)).summary.class_counts

    assert counts() == (80, 1, 20)
    assert counts(num_train=21) == (16, 1, 4)
    assert counts(num_train=21, balanced=True) == (10, 1, 10)


def test_prefixes_of_equal_classes_are_balanced_either_way(tmp_path):
    write(tmp_path, {"cat": 20, "dog": 20})
    either = [list_folder(config(tmp_path, balanced=balanced)).parts["train"].files for balanced in (False, True)]
    assert either[0] == either[1]


def test_a_second_part_is_held_out(tmp_path):
    for part, count in (("train", 20), ("val", 5)):
        write(tmp_path / part, {"cat": count, "dog": count})
    assert sizes(tmp_path) == (32, 8, 10)
    assert sizes(tmp_path, val_is="val") == (40, 10, 0)
    write(tmp_path / "test", {"cat": 3, "dog": 3})
    assert sizes(tmp_path) == (40, 10, 6)


READ_BEFORE = {
    "train": "Ape/1 cat/7 dog/0 Ape/3 cat/6 dog/1 cat/0 dog/4 cat/4 dog/3",
    "val": "Ape/2 cat/1 cat/9 dog/5",
    "test": "Ape/0 cat/3 cat/8 dog/2",
}
"""As the last version without `data.reading` lists and divides the folder below, and its fingerprints."""
FINGERPRINT = "b227887bed929155cefb1ae6716b99bd1bb1cd9c8ea01b86a8c5e321a7f57fe1"
DIVIDED_FINGERPRINT = "c893cdfc4f151596a6f694a997ae85ad0e8cc97fc662b2cb037fc7e65f4de129"


def test_reading_1_is_what_it_was(tmp_path):
    write(tmp_path / "a", {"cat": 10, "dog": 6, "Ape": 4})
    listed = list_images(config(tmp_path / "a", num_train=10, reading=1))
    for part, expected in READ_BEFORE.items():
        files = [listed.parts[part].file(i) for i in range(len(listed.parts[part]))]
        assert " ".join(f"{file.parent.name}/{file.stem}" for file in files) == expected
    assert listed.summary.fingerprint == FINGERPRINT
    write(tmp_path / "b" / "train", {"cat": 6, "dog": 5})
    write(tmp_path / "b" / "val", {"cat": 2, "dog": 1})
    listed = list_images(config(tmp_path / "b", reading=1))
    assert (listed.summary.num_val, listed.summary.num_test) == (3, 0)
    assert listed.summary.fingerprint == DIVIDED_FINGERPRINT


def test_a_stored_study_without_the_key_is_read_as_before(tmp_path):
    now = StudyConfig(name="s", data=config(tmp_path))
    assert now.data.reading == 2
    content = now.to_dict()
    assert StudyConfig.of_stored(content, "s").data.reading == 2
    del content["data"]["reading"]
    stored = StudyConfig.of_stored(content, "s")
    assert stored.data.reading == 1
    assert now.with_places_of(stored).differences(content) == [], "the same study file goes on with it"
    asked = StudyConfig(name="s", data=config(tmp_path, reading=2))
    assert asked.with_places_of(stored).differences(content) == ["data.reading: stored 1, given 2"]


@pytest.mark.parametrize("reading", [1, 2])
def test_digits_are_divided_as_ever(reading):
    from nas.training.data import open_data

    assert open_data(DataConfig(num_train=200, reading=reading)).fingerprint.startswith("5d32c16cf4a14047")


def test_the_order_of_training_begins_with_each_class(tmp_path):
    write(tmp_path, {"a": 40, "b": 7, "c": 3})
    labels = list_folder(config(tmp_path)).parts["train"].labels
    assert sorted(labels[:3].tolist()) == [0, 1, 2]
    assert np.bincount(labels[: len(labels) // 2]).tolist() == pytest.approx([12, 2, 1], abs=1)
