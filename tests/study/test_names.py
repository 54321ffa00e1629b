"""Studies whatever they are called: each has its own folders, also those that were begun before."""

from pathlib import Path

import pytest
import yaml

from nas.errors import UserError
from nas.study.companions import parent_of
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.store.reader import Study
from nas.study.store.studies import open_own_study
from nas.study.store.urls import sqlite_url

from .conftest import SUMMARY

NASTY = ("中国", "日本", "..", "a/../../b", "x" * 250, "it's mine", "~", "nas.db", "checkpoints")


def made(folder: Path, name: str) -> Study:
    return create_study(
        StudyConfig(name=name, space="patterns"), "", sqlite_url(folder / "db" / "nas.db"), lambda _: SUMMARY
    )


def test_every_study_has_folders_of_its_own_beside_the_database(tmp_path: Path) -> None:
    studies = [made(tmp_path, name) for name in NASTY]
    for folders in ([study.folder for study in studies], [CheckpointFolder(study).folder for study in studies]):
        assert len(set(folders)) == len(NASTY)
        for folder in folders:
            assert tmp_path / "db" in folder.resolve().parents
            folder.mkdir(parents=True)
    path = CheckpointFolder(studies[4]).path(0)
    path.with_name(f".{path.name}.12345678").write_text("longer than the name that is too long")


def test_a_study_that_was_begun_before_keeps_its_checkpoints_and_results(tmp_path: Path) -> None:
    study, other = made(tmp_path, "中国"), made(tmp_path, "日本")
    old = tmp_path / "db" / "checkpoints" / f"__-{round(study.created_at * 1000):x}"
    old.mkdir(parents=True)
    assert CheckpointFolder(study).folder == old
    assert CheckpointFolder(other).folder != old
    results = tmp_path / "db" / "__"
    results.mkdir()
    assert study.folder != results, "nothing there says whose it is"
    (results / "best.yaml").write_text(yaml.safe_dump({"provenance": {"study": "中国"}}))
    assert study.folder == results
    assert other.folder != results, "two studies wrote there; the last one keeps it"


@pytest.mark.parametrize(
    ("name", "parent"),
    [("a/candidates", "a"), ("a/b/confirm/100000", "a/b"), ("a/calibration", "a"), ("a/b", None), ("candidates", None)],
)
def test_names_of_companions(tmp_path: Path, name: str, parent: str | None) -> None:
    assert parent_of(name) == parent
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"name": name}))
    if parent is None:
        assert StudyConfig.load(file)[0].name == name
        return
    with pytest.raises(UserError, match=rf"study\.yaml: name: '{name}' is what a companion of a study '{parent}'"):
        StudyConfig.load(file)


@pytest.mark.parametrize(("name", "said"), [("-x", "a - at its beginning"), ("a\nb", r"the character '\\n'")])
def test_names_that_no_command_line_takes(tmp_path: Path, name: str, said: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"name": name}))
    with pytest.raises(UserError, match=rf"name: .* has {said}"):
        StudyConfig.load(file)


@pytest.mark.parametrize(("ending", "command"), [("confirm/7", "confirm"), ("candidates", "resume")])
def test_a_companion_is_not_gone_on_with_by_its_own_name(tmp_path: Path, ending: str, command: str) -> None:
    study = made(tmp_path, f"a b/{ending}")  # as its parent's command would make it
    with pytest.raises(
        UserError, match=f"works for the study 'a b' and goes on with it: nas {command} 'a b' --storage"
    ):
        open_own_study(study.url, study.name)


def test_a_calibration_is_gone_on_with_by_the_file_of_its_study(tmp_path: Path) -> None:
    study = made(tmp_path, "a b/calibration/0a1b2c3d")
    said = r"is the calibration of 'a b' .*: nas calibrate STUDY.yaml --storage \S+, or nas search where a search"
    with pytest.raises(UserError, match=said):
        open_own_study(study.url, study.name)
