"""What the walk through a folder finds, passes over and refuses."""

import os

import pytest
from PIL import Image

from nas.errors import DataError
from nas.training.data.folder import notes, shown, walk_folder


def add(path, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side)).save(path)


@pytest.fixture
def root(tmp_path):
    for name in ("cat", "dog"):
        add(tmp_path / "images" / name / "1.png")
    return tmp_path / "images"


def names(root):
    return [file.name for files in walk_folder(root)["train"].classes.values() for file in files]


def test_the_folder_under_the_root_is_the_class(root):
    add(root / "cat" / "indoor" / "2.png")
    add(root / "dog" / "indoor" / "deep" / "2.png")
    assert names(root) == ["cat/1.png", "cat/indoor/2.png", "dog/1.png", "dog/indoor/deep/2.png"]
    assert notes(walk_folder(root)) == ()


def test_names_are_ordered_by_their_bytes(root):
    for name in ("A", "a", "1", "01", "é", "Z"):
        add(root / name / "x.png")
    add(root / "a" / "B.png")
    assert list(walk_folder(root)["train"].classes) == ["01", "1", "A", "Z", "a", "cat", "dog", "é"]
    assert [name for name in names(root) if name.startswith("a/")] == ["a/B.png", "a/x.png"]


def test_every_format_that_is_decoded_counts(root):
    for suffix in ("webp", "BMP", "gif", "tif", "JPEG", "ppm"):
        add(root / f"of {suffix}" / f"1.{suffix}")
    assert len(names(root)) == 8


@pytest.mark.parametrize("part", ["", "train", "val"])
def test_hidden_and_system_entries_are_passed_over_and_counted(root, tmp_path, part):
    if part:
        for name in ("train", "val"):
            root.parent.joinpath("divided").mkdir(exist_ok=True)
            for label in ("cat", "dog"):
                add(tmp_path / "divided" / name / label / "1.png")
        root = tmp_path / "divided"
    before = sum(len(files) for found in walk_folder(root).values() for files in found.classes.values())
    place = root / part
    for hidden in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN", "cat/@eaDir"):
        add(place / hidden / "1.png")
    for file in ("cat/._x.jpg", "cat/Thumbs.db", "desktop.ini"):
        (place / file).write_bytes(b"x")
    found = walk_folder(root)
    assert sum(len(files) for part in found.values() for files in part.classes.values()) == before
    assert notes(found) == ("left out: 8 hidden or system entries",)


def test_what_is_left_out_is_told_in_one_line(root):
    (root / "bird").mkdir()
    (root / "cat" / "about.txt").write_text("cats")
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")
    (root / "cat" / "up").symlink_to(root)
    (root / "dog" / "again").symlink_to(root / "dog")
    os.mkfifo(root / "dog" / "pipe.png")
    assert names(root) == ["cat/1.png", "dog/1.png"]
    (line,) = notes(walk_folder(root))
    assert line == (
        f"left out: 2 circular links; 2 dead links; 1 devices; 1 other files; 1 without images ({root / 'bird'})"
    )


def test_links_are_followed(root, tmp_path):
    add(tmp_path / "elsewhere" / "2.png")
    (root / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "bird").symlink_to(tmp_path / "elsewhere")
    assert names(root) == ["bird/2.png", "cat/1.png", "cat/linked/2.png", "dog/1.png"]


def test_names_that_are_not_utf8(root):
    name = os.fsdecode(b"\xff\n")
    add(root / name / "1.png")
    assert list(walk_folder(root)["train"].classes) == ["cat", "dog", name]
    assert shown(root / name) == f"{root}/\\xff\\n"


def test_folders_that_are_refused(root, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder of images$"):
        walk_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"cat: expected one folder for each class, found images beside them$"):
        walk_folder(root / "cat")
    (tmp_path / "one" / "empty").mkdir(parents=True)
    with pytest.raises(DataError, match=r"one: no images in it"):
        walk_folder(tmp_path / "one")
    add(tmp_path / "one" / "only" / "1.png")
    with pytest.raises(DataError, match=r"one: expected at least 2 classes, found 1$"):
        walk_folder(tmp_path / "one")


def test_a_class_needs_training_images(root, tmp_path):
    divided = tmp_path / "divided"
    for part in ("training", "valid"):
        for name in ("cat", "dog"):
            add(divided / part / name / "1.png")
    assert set(walk_folder(divided)) == {"train", "val"}
    (divided / "training" / "bird").mkdir()
    add(divided / "valid" / "bird" / "1.png")
    with pytest.raises(DataError, match=r"valid/bird: a class without training images$"):
        walk_folder(divided)
