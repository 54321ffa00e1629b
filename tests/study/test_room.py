"""All workers of a study see the same pixels, wherever there is room for decoded images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.errors import DataError
from nas.study.config import StudyConfig
from nas.study.launch.create import check_same, create_study
from nas.study.run.training import Training
from nas.study.store.engine import open_engine
from nas.study.store.reader import Study, open_study
from nas.study.store.studies import change_study
from nas.training.data import folder_data, open_data
from nas.training.data.arrays import ArrayData
from nas.training.data.images import ImageData


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    monkeypatch.setenv("FUSION_NAS_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(256, size=(20, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    data = {"source": f"folder:{tmp_path / 'images'}", "image_size": 16, "in_chans": 1}
    return StudyConfig.parse({"name": "s", "space": "patterns", "data": data}, "test")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'nas.db'}"


def begun(config: StudyConfig, url: str) -> Study:
    return create_study(config, "name: s", url, lambda config: open_data(config.data).summary)


def test_a_study_that_begins_without_room_goes_on_so(
    config: StudyConfig, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(folder_data, "MARGIN", 2**60)
        study = begun(config, url)
    assert study.settings.data.cache == "off"
    assert isinstance(Training(study, device="cpu").data, ImageData)
    assert not list((tmp_path / "cache" / "decoded").rglob("*.npy"))
    assert not check_same(config, study), "the same study file goes on with it"
    placed = config.model_copy(update={"data": config.data.model_copy(update={"cache": str(tmp_path)})})
    assert not check_same(placed, study)


def test_a_worker_without_room_does_not_join_those_that_have_it(
    config: StudyConfig, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begun(config, url)
    assert study.settings.data.cache == "auto"
    assert isinstance(Training(study, device="cpu").data, ArrayData)
    monkeypatch.setattr(folder_data, "MARGIN", 2**60)
    assert isinstance(Training(study, device="cpu").data, ArrayData), "what is kept already takes no room"
    monkeypatch.setenv("FUSION_NAS_CACHE", f"{url.removeprefix('sqlite:///')}.cache")
    with pytest.raises(DataError, match=r"study s: its other workers train on decoded images .*FUSION_NAS_CACHE"):
        Training(study, device="cpu")
    without = {key: value for key, value in study.data.items() if key != "no_room"}
    change_study(open_engine(url), study.study_id, data=without)
    assert isinstance(Training(open_study(url, "s"), device="cpu").data, ImageData), "an older study goes on as it did"
