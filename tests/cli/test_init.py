"""`nas init` on folders as people have them, and `nas search` on what it wrote."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from nas.study.config import StudyConfig
from nas.training.data import open_data
from nas.training.data.digits import all_digits
from nas.training.data.survey import Survey

Nas = Callable[..., tuple[int, str, str]]


def write_images(root: Path, counts: dict[str, int], *, size: tuple[int, int] = (20, 28), mode: str = "L") -> Path:
    """A folder a class with digits as PNG and JPEG files by turns."""
    digits = all_digits()
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(digits.labels == label)[:count]):
            image = Image.fromarray(digits.images[index, 0] * 15).resize(size).convert(mode)
            image.save(root / name / f"{number}.{'jpg' if number % 2 else 'png'}")
    return root


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "my images", {"none": 20, "one": 20, "two's": 10})


def add_unusual(folder: Path) -> None:
    """Images as cameras and scanners leave them: 16 bits a channel, CMYK, turned by EXIF data."""
    deep = np.arange(400, dtype=np.uint16).reshape(20, 20) * 160
    Image.fromarray(deep).save(folder / "deep.png")
    Image.new("CMYK", (40, 30), (200, 20, 20, 0)).save(folder / "cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 60), (9, 9, 9)).save(folder / "turned.jpg", exif=exif)


def test_what_it_writes_can_be_searched_unedited(nas: Nas, images: Path, tmp_path: Path) -> None:
    file, url = tmp_path / "study.yaml", f"sqlite:///{tmp_path / 'nas.db'}"
    code, out, err = nas("init", images, "-o", file, "--device", "cpu")
    assert code == 0, err
    assert out.splitlines()[0].endswith("trials on cpu")
    assert out.splitlines()[-1] == f"run it with: nas search {file}"
    small = ("--trials", 1, "--workers", 1, "--set", "training.threads=1")
    code, out, err = nas("search", file, "--storage", url, *small)
    assert code == 0, err
    assert out.startswith("study my images: 1 of 1 trials")


def test_what_it_says_and_suggests(nas: Nas, images: Path, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    nas("init", images, "-o", file, "--device", "cpu", "--name", "mine: #1")
    text = file.read_text()
    assert "# Found: 50 grey images of 3 classes" in text
    assert "# 30 to train, 10 to validate, 10 that no search sees." in text
    assert [line.split(maxsplit=2)[1:] for line in text.splitlines() if line.startswith("#       ")] == [
        ["12", "none"],
        ["12", "one"],
        ["6", "two's"],
    ]
    assert "2.0 times the images of the smallest; always guessing it scores 0.400." in text
    assert "with 10 validation images a score is uncertain by up to 31 points." in text
    config, _ = StudyConfig.load(file)
    assert config.name == "mine: #1"
    assert config.data.source == f"folder:{images}"
    assert (config.data.image_size, config.data.in_chans) == (24, 1)
    assert config.backbone.name == "resnet_micro"


def test_nothing_is_overwritten(nas: Nas, images: Path, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("mine")
    code, out, err = nas("init", images, "-o", file)
    assert (code, out, file.read_text()) == (2, "", "mine")
    assert "--force" in err
    assert nas("init", images, "-o", file, "--force", "--device", "cpu")[0] == 0
    assert yaml.safe_load(file.read_text())["schema"] == 1


@pytest.mark.parametrize("content", [b"", b"not an image", "half"], ids=["empty", "corrupt", "truncated"])
def test_files_that_are_no_images_are_named(nas: Nas, images: Path, tmp_path: Path, content: bytes | str) -> None:
    broken = images / "one" / "7.jpg"
    broken.write_bytes(content if isinstance(content, bytes) else broken.read_bytes()[:200])
    code, out, err = nas("init", images, "-o", tmp_path / "study.yaml")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"nas: {broken}: not a readable image")
    assert not (tmp_path / "study.yaml").exists()


def test_folders_that_are_no_data_sets(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one = write_images(tmp_path / "one", {"only": 10})
    for folder, said in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "empty", "no images in it"),
        (one, "expected at least 2 classes, found 1"),
        (one / "only", "expected one folder for each class"),
    ):
        code, _, err = nas("init", folder, "-o", tmp_path / "study.yaml")
        assert code == 2
        assert said in err
    assert "ends in .yaml" in nas("init", one, "-o", tmp_path / "study.txt")[2]


def surveyed(root: Path) -> Survey:
    from nas.training.data.survey import survey_folder

    return survey_folder(root)


def test_unusual_files_are_noticed(images: Path) -> None:
    plain = surveyed(images)
    assert (plain.in_chans, plain.num_deep, plain.num_cmyk) == (1, 0, 0)
    assert plain.shorter_sides == (20, 20, 20)
    add_unusual(images / "one")
    found = surveyed(images)
    assert (found.in_chans, found.num_deep, found.num_cmyk) == (3, 1, 1)
    assert found.num_images == 53
    assert found.shorter_sides == (20, 20, 30)


def test_grey_images_in_colour_files_are_grey(tmp_path: Path) -> None:
    assert surveyed(write_images(tmp_path / "rgb", {"a": 10, "b": 10}, mode="RGB")).in_chans == 1


def test_folders_that_come_divided(tmp_path: Path) -> None:
    write_images(tmp_path / "d" / "train", {"a": 12, "b": 12})
    write_images(tmp_path / "d" / "val", {"a": 4, "b": 4})
    found = surveyed(tmp_path / "d")
    assert found.divided
    assert (found.summary.num_train, found.summary.num_val, found.summary.num_test) == (20, 4, 8)


def test_what_is_left_out_is_said(nas: Nas, images: Path, tmp_path: Path) -> None:
    file, url = tmp_path / "study.yaml", f"sqlite:///{tmp_path / 'nas.db'}"
    (images / "one" / "Thumbs.db").write_bytes(b"x")
    line = "left out: 1 hidden or system entries"
    code, _, err = nas("init", images, "-o", file, "--device", "cpu")
    assert code == 0, err
    assert line in err.splitlines()
    small = ("--trials", 1, "--workers", 1, "--set", "training.threads=1")
    code, _, err = nas("search", file, "--storage", url, *small)
    assert code == 0, err
    assert line in err.splitlines()


def test_decoded_images_can_be_removed(nas: Nas, images: Path, tmp_path: Path) -> None:
    nas("init", images, "-o", tmp_path / "study.yaml", "--device", "cpu")
    code, out, _ = nas("delete", "--cache")
    assert code == 0
    assert int(out.split()[1].replace(",", "")) > 50 * 24 * 24
    assert nas("delete", "--cache")[1].startswith("removed: 0 bytes")
    place = tmp_path / "placed"
    study = StudyConfig.load(tmp_path / "study.yaml", (f"data.cache={place}",))[0]
    open_data(study.data)
    out = nas("delete", "--cache")[1]
    assert re.fullmatch(rf"removed: 0 bytes .*\nremoved: [\d,]{{5,}} bytes of decoded images in {place}\n", out)
    assert not place.exists()
    for arguments in ((), ("made", "--cache")):
        code, _, err = nas("delete", *arguments)
        assert code == 2
        assert "expected either STUDY or --cache" in err


def test_a_budget_fits_the_time(images: Path) -> None:
    from nas.study.launch.starter_file import TARGET_S, TRIALS, fit_budget, trial_s
    from nas.training.pace import Pace

    found = surveyed(write_images(images.parent / "more", {"a": 170, "b": 170}))
    content = {"name": "s", "data": {"source": f"folder:{found.root}"}, "training": {"epochs": 10}, "workers": 2}
    config = StudyConfig.parse(content, "test")
    quick = Pace(device="cpu", train=1000.0, val=4000.0)
    fitted, seconds = fit_budget(config, found, quick)
    assert (fitted.trials, fitted.data.num_train) == (TRIALS[1], None)
    expected = 1.25 * 10 * (204 / 1000 + 68 / 4000)
    assert trial_s(config, found, quick) == pytest.approx(expected)
    assert seconds == pytest.approx(50 * expected)
    slow = Pace(device="cpu", train=5.0, val=1000.0)
    fitted, seconds = fit_budget(config, found, slow)
    assert fitted.trials == TRIALS[0]
    assert fitted.data.num_train is not None
    assert 40 <= fitted.data.num_train < 204
    assert seconds < 1.2 * TARGET_S
