"""Creating a study, joining a stored one."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest

from nas.errors import UserError
from nas.estimate.config import EstimateConfig
from nas.space.files import shipped_folder
from nas.space.landmarks import LANDMARKS
from nas.study.config import StudyConfig
from nas.study.launch.create import check_same, create_study, set_target
from nas.study.launch.relocate import relocate
from nas.study.store.reader import Study, open_study
from nas.study.store.studies import stored_study
from nas.training.config import DataConfig

from .conftest import SUMMARY

BRIEF = EstimateConfig(by="brief", candidates=20)


def test_landmarks_wait_first_and_optuna_opens_the_same_database(
    stored: Study, storage: optuna.storages.RDBStorage
) -> None:
    study = optuna.load_study(study_name="s", storage=storage)
    waiting = [trial.user_attrs["landmark"] for trial in study.get_trials()]
    assert waiting == list(LANDMARKS)
    assert {trial.state for trial in study.get_trials()} == {optuna.trial.TrialState.WAITING}


def test_a_second_launcher_joins(stored: Study, config: StudyConfig) -> None:
    again = create_study(config, "name: s", stored.url, lambda _: SUMMARY)
    assert again.study_id == stored.study_id
    assert len(again.trials()) == len(LANDMARKS)


def test_eight_launchers_at_once_make_one_study(config: StudyConfig, url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(create_study, config, "", url, lambda _: SUMMARY) for _ in range(8)]
        ids = {job.result().study_id for job in jobs}
    assert len(ids) == 1
    names = [t.landmark or "" for t in open_study(url, "s").trials()]
    assert len(names) == len(LANDMARKS)


def test_target_is_what_the_space_can_give(url: str) -> None:
    config = StudyConfig(name="big", space="patterns", trials=100_000)
    study = create_study(config, "", url, lambda _: SUMMARY)
    # 625 networks, and the landmarks that patterns (SE only) does not hold: CBAM everywhere, the dual default.
    assert study.target == 625 + 2


def test_target_can_grow(stored: Study) -> None:
    assert stored.target == 12
    assert set_target(stored, 20) == 20
    assert stored.target == 20
    assert set_target(stored, 100_000) == stored.target == 625 + 2  # no more networks than there are


def test_other_settings_are_refused_with_the_key(stored: Study, config: StudyConfig) -> None:
    check_same(config.model_copy(update={"trials": 99, "workers": 2}), stored)
    other = StudyConfig.parse({**config.to_dict(), "training": {"epochs": 7}}, "x")
    with pytest.raises(UserError, match=r"training.epochs: stored 5, given 7.*Only trials, workers"):
        check_same(other, stored)
    with pytest.raises(UserError, match=r"space: stored 'patterns'"):
        check_same(config.model_copy(update={"space": "full"}), stored)


def test_paths_of_a_study_file_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = shipped_folder("search_spaces") / "patterns.yaml"
    (tmp_path / "own.yaml").write_text(space.read_text())
    file = tmp_path / "study.yaml"
    file.write_text("{schema: 1, name: s, space: ./own.yaml, data: {source: 'folder:i'}, training: {init_from: w.pt}}")
    monkeypatch.chdir(tmp_path)
    config, _ = StudyConfig.load("study.yaml", ["data.source=folder:../j"])
    places = (config.space, config.data.source, config.training.init_from)
    assert places == (str(tmp_path / "own.yaml"), f"folder:{tmp_path.parent / 'j'}", str(tmp_path / "w.pt"))
    shipped, _ = StudyConfig.load("quickstart", ["data.source=folder:i"])
    assert shipped.data.source == f"folder:{tmp_path / 'i'}"


def in_folder(config: StudyConfig, place: str, weights: str | None = None) -> StudyConfig:
    data, training = {"source": f"folder:{place}"}, {"init_from": weights}
    return StudyConfig.parse({**config.to_dict(), "data": data, "training": training}, "x")


def test_data_that_moved_are_accepted_if_they_are_the_same(
    config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    stored = create_study(in_folder(config, "/old").model_copy(update={"estimate": BRIEF}), "", url, lambda _: SUMMARY)
    given = in_folder(config, "/new").model_copy(update={"estimate": BRIEF})
    assert check_same(given, stored)
    monkeypatch.setattr("nas.study.launch.processes.ask", lambda *_: "0" * 64)
    with pytest.raises(
        UserError, match=r"folder:/new holds other images than study 's' .*fingerprint 0{16}, was f{16}"
    ):
        relocate(stored, given.data)
    monkeypatch.setattr("nas.study.launch.processes.ask", lambda *_: SUMMARY.fingerprint)
    relocate(stored, given.data)
    again = open_study(url, "s")
    assert not check_same(given, again)
    assert [part.config["data"]["source"] for part in again.parts()] == ["folder:/new"] * 2
    assert again.data["source"] == "folder:/new"
    with pytest.raises(UserError, match=r"data.source: stored 'folder:/new', given 'digits'"):
        check_same(given.model_copy(update={"data": DataConfig()}), again)


def test_a_study_that_stored_its_paths_as_they_stood_in_the_file_goes_on(config: StudyConfig, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    stored = create_study(in_folder(config, "i", "sub/w.pt"), "", url, lambda _: SUMMARY)
    assert check_same(in_folder(config, "/home/i", "/home/sub/w.pt"), stored)
    with pytest.raises(UserError, match=r"training.init_from: stored 'sub/w.pt', given '/home/w.pt'"):
        check_same(in_folder(config, "/home/i", "/home/w.pt"), stored)


def test_unknown_studies_are_named(stored: Study) -> None:
    assert stored_study(stored.url, "other") is None
    with pytest.raises(UserError, match=r"no study named 'other'; studies: s"):
        open_study(stored.url, "other")
    with pytest.raises(UserError, match=r"no trial 77; trials: 0 to 5"):
        stored.trial(77)


def test_reading_needs_neither_torch_nor_optuna(stored: Study) -> None:
    code = (
        "import sys, nas\n"
        f"print(len(nas.open_study({stored.url!r}, 's').trials()))\n"
        "print([m for m in ('torch', 'optuna', 'lightning', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["6", "[]"]


def test_landmarks_take_no_more_room_than_there_is(config: StudyConfig, url: str) -> None:
    small = create_study(config.model_copy(update={"trials": 2}), "", url, lambda _: SUMMARY)
    assert len(small.trials()) == 2
    set_target(small, 12)
    assert len(small.trials()) == len(LANDMARKS)
