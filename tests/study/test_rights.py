"""Who may work on a database may use what lies beside it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.documents import write_atomically
from nas.errors import UserError
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.store.lock import drawing
from nas.study.store.reader import Study
from nas.training.checkpoint import Checkpoint

from .conftest import SUMMARY

EMPTY = Checkpoint(identity={}, records=(), model={}, optimizer={}, scaler={}, guard={}, generators={}, wall_s=0.0)


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


@pytest.fixture
def other_group() -> int:
    """A group that this account may give files to, and that its new files do not have."""
    groups = {4711} if os.geteuid() == 0 else set(os.getgroups()) - {os.getegid()}
    if not groups:
        pytest.skip("this account is in one group only")
    return min(groups)


def test_checkpoints_and_locks_have_the_group_of_the_database(tmp_path: Path, study: Study, other_group: int) -> None:
    database = tmp_path / "nas.db"
    os.chown(database, -1, other_group)
    database.chmod(0o660)
    place = CheckpointFolder(study).place(7)
    EMPTY.save(place)
    with drawing(study.url, study.study_id):
        pass
    made = [place, place.parent, place.parent.parent, tmp_path / f"nas.db-lock-{study.study_id}"]
    assert [path.stat().st_gid for path in made] == [other_group] * 4
    assert [mode(path) for path in made] == ["660", "770", "770", "660"]


def test_a_folder_hands_its_group_on(tmp_path: Path, study: Study, other_group: int) -> None:
    os.chown(tmp_path, -1, other_group)
    tmp_path.chmod(0o2775)
    os.chown(tmp_path / "nas.db", -1, other_group)
    folder = CheckpointFolder(study).place(7).parent
    assert (folder.stat().st_gid, bool(folder.stat().st_mode & stat.S_ISGID)) == (other_group, True)
    (folder / "x").write_text("")
    assert (folder / "x").stat().st_gid == other_group


def test_what_belongs_to_another_user_in_a_sticky_folder(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses to replace it and, where `fs.protected_regular` is set, to open it as a lock is opened."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    tmp_path.chmod(0o1777)
    (tmp_path / "best.yaml").write_text("theirs")
    lock = tmp_path / f"nas.db-lock-{study.study_id}"
    lock.touch()
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr("nas.study.store.lock.FileLock.acquire", refuse)
    with pytest.raises(UserError, match=r"best.yaml: cannot be written: Operation not permitted$"):
        write_atomically(tmp_path / "best.yaml", "ours")
    another = os.geteuid() + 1
    monkeypatch.setattr("os.geteuid", lambda: another)
    sticky = rf"belongs to another user, and {tmp_path} is sticky: .* chmod -t {tmp_path}$"
    with pytest.raises(UserError, match=rf"best.yaml: cannot be written: {sticky}"):
        write_atomically(tmp_path / "best.yaml", "ours")
    with pytest.raises(UserError, match=rf"{lock}: {sticky}"), drawing(study.url, study.study_id):
        pass
    assert (tmp_path / "best.yaml").read_text() == "theirs"
    assert not list(tmp_path.glob(".best.yaml.*"))
