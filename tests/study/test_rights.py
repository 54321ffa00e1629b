"""Who may work on a database may use what lies beside it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.documents import write_atomically
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.store.reader import Study

from .conftest import SUMMARY


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.fixture
def study(tmp_path: Path, umask: None) -> Study:
    return create_study(
        StudyConfig(name="s", space="patterns"), "", f"sqlite:///{tmp_path / 'nas.db'}", lambda _: SUMMARY
    )


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o777:o}"


@pytest.mark.parametrize(("database", "folder"), [(0o664, "775"), (0o600, "700"), (0o640, "750")])
def test_checkpoints_have_the_rights_of_the_database(tmp_path: Path, study: Study, database: int, folder: str) -> None:
    (tmp_path / "nas.db").chmod(database)
    place = CheckpointFolder(study).place(7)
    assert (mode(place.parent), mode(place.parent.parent)) == (folder, folder)
    assert place.parent.stat().st_gid == (tmp_path / "nas.db").stat().st_gid


def test_folders_that_are_there_stay_as_they_are(tmp_path: Path, study: Study) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints").chmod(0o711)
    CheckpointFolder(study).place(7)
    assert mode(tmp_path / "checkpoints") == "711"


def test_other_files_have_the_rights_that_the_umask_leaves(tmp_path: Path, umask: None) -> None:
    write_atomically(tmp_path / "best.yaml", "x")
    assert mode(tmp_path / "best.yaml") == "640"
    write_atomically(tmp_path / "best.yaml", "y", mode=0o664)
    assert mode(tmp_path / "best.yaml") == "664"
    assert [path.name for path in tmp_path.iterdir()] == ["best.yaml"]
