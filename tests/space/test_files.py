"""Shipped files: where they lie, what they are called, and that they are sound."""

from pathlib import Path

import pytest

from nas.errors import NasError, UserError
from nas.space import SearchSpace, files, find_file, list_spaces, shipped_folder, shipped_names


def test_the_promised_spaces_ship() -> None:
    assert {"full", "cautious", "patterns"} <= set(list_spaces())
    assert list_spaces() == shipped_names("search_spaces") == tuple(sorted(list_spaces()))


@pytest.mark.parametrize("name", list_spaces())
def test_every_shipped_space_loads_and_says_what_it_is(name: str) -> None:
    space = SearchSpace.load(name)
    assert space.name == name
    assert space.description
    assert space.size > 1
    assert SearchSpace.load(shipped_folder("search_spaces") / f"{name}.yaml") == space


def test_an_installed_package_finds_the_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "nas"
    folder = package / "shipped" / "studies"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").touch()
    monkeypatch.setattr(files, "_PACKAGE", package)
    assert shipped_folder("studies") == folder
    assert shipped_names("studies") == ("mine",)
    assert find_file("studies", "mine") == folder / "mine.yaml"
    with pytest.raises(NasError, match="the folder search_spaces that ships"):
        shipped_folder("search_spaces")


def test_a_path_starts_at_the_given_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.yaml").touch()
    assert find_file("search_spaces", "own.yaml", tmp_path) == tmp_path / "own.yaml"
    assert find_file("search_spaces", tmp_path / "own.yaml", Path("elsewhere")) == tmp_path / "own.yaml"
    monkeypatch.chdir(tmp_path)
    assert find_file("search_spaces", "own.yaml") == Path("own.yaml")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "fulll",
            r"unknown search space 'fulll'; shipped: blocks, cautious, .*patterns; or the path of a \.yaml file",
        ),
        ("my/full.yaml", r"my/full\.yaml: no such search space; shipped: blocks, cautious"),
        ("", r"unknown search space ''; shipped: "),
    ],
)
def test_an_unknown_space_is_an_error_that_lists_the_known(reference: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SearchSpace.load(reference)
