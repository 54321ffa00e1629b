"""A study's name as a file's: injective, bounded, reversible, and what is plain stays."""

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nas.file_names import DIGEST_LENGTH, MAX_LENGTH, earlier_place, file_name

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(names)
@example("..")
@example(".")
@example("Ü.db")
@example("%C3%9C.db")
@example("con.txt")
@example("x" * 256)
@example("a~b")
def test_a_file_name_is_safe_and_gives_the_name_back(name: str) -> None:
    text = file_name(name)
    assert len(text) <= MAX_LENGTH
    assert text.isascii()
    assert "/" not in text
    assert "\\" not in text
    assert text[0] not in ".- "
    assert text[-1] not in ". "
    if "~" in text:  # cut
        assert len(name.encode()) > (MAX_LENGTH - DIGEST_LENGTH) / 3
    else:
        assert unquote(text) == name


@given(names, names)
def test_no_two_names_share_a_file(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) == (one == other)


def test_long_names_with_one_beginning_do_not_share_a_file() -> None:
    one, other = (file_name("x" * 250 + end) for end in "ab")
    assert one != other
    assert one[:90] == other[:90]


@pytest.mark.parametrize("name", ["digits-quickstart", "my study", "v1.2", "A_b", "tiny", "2026-01-01"])
def test_plain_names_stay(name: str) -> None:
    assert file_name(name) == name


@pytest.mark.parametrize("name", ["con", "NUL.txt", "checkpoints", "tracking", "nas.db", "nas.db-wal", "my.yaml", "a."])
def test_names_that_mean_something_else_do_not_stay(name: str) -> None:
    assert file_name(name) != name
    assert unquote(file_name(name)) == name


def test_an_earlier_place_is_found_and_never_above(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "a_b-1f").mkdir(parents=True)
    assert earlier_place(folder, "a b", "-1f") == folder / "a_b-1f"
    assert earlier_place(folder, "a_b", "-1f") is None, "that is where it still is"
    assert earlier_place(folder, "a b", "-2f") is None
    for name in ("..", ".", "x" * 256, "中国" * 128):
        assert earlier_place(folder, name) is None
