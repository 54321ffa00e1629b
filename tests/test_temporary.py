"""Folders for temporary files: removed, too deep, somebody else's, or none at all."""

import os
import tempfile
from pathlib import Path

import pytest

from nas.errors import NasError
from nas.temporary import SOCKET_BYTES, own_folder, socket_root, temporary_folder, temporary_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TMPDIR, a short one, as the process sees it that starts now."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_a_root_that_was_removed_is_looked_for_again(root: Path) -> None:
    assert temporary_root() == root
    root.rmdir()
    assert temporary_root() != root
    with temporary_folder() as folder:
        (folder / "x").write_text("")
    assert not folder.exists()


def test_where_nothing_can_be_written_one_line_names_tmpdir(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(root / "none")])
    with pytest.raises(NasError, match=r"no folder takes any.*set TMPDIR"):
        temporary_root()


def test_sockets_find_a_short_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = root / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(deep))
    assert temporary_root() == deep
    monkeypatch.setattr("nas.temporary.SHORT", root)
    assert socket_root() == root
    monkeypatch.setattr("nas.temporary.SHORT", root / "none")
    with pytest.raises(NasError, match=rf"e: too deep for a socket, whose path has {SOCKET_BYTES} bytes; set TMPDIR"):
        socket_root()


def test_the_own_folder_is_made_again(root: Path) -> None:
    first = own_folder()
    assert first.stat().st_mode & 0o777 == 0o700
    first.rmdir()
    assert own_folder() == first
    assert first.is_dir()


def test_a_folder_that_others_can_write_is_not_trusted(root: Path) -> None:
    own_folder().chmod(0o770)
    with pytest.raises(NasError, match=r"nobody else can write, found one of user \d+ with mode 770; remove it"):
        own_folder()


def test_a_folder_of_somebody_else_is_not_trusted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_folder()
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    (root / f"fusion-nas-{me}").rename(root / f"fusion-nas-{me + 1}")
    with pytest.raises(NasError, match=rf"expected a folder of user {me + 1} .* found one of user {me} "):
        own_folder()


def test_a_link_is_not_followed(root: Path) -> None:
    (root / "elsewhere").mkdir(mode=0o700)
    own_folder().rmdir()
    (root / f"fusion-nas-{os.getuid()}").symlink_to(root / "elsewhere")
    with pytest.raises(NasError, match="expected a folder of user"):
        own_folder()
