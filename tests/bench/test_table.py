import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.bench import Table, load_table
from nas.bench.table import MISSING, bench_space
from nas.errors import UserError
from tests.bench.conftest import NUM_VAL, additive_quality, planted


def test_the_shipped_table_is_what_it_says_it_is() -> None:
    table = load_table()
    assert {a.digest for a in table.architectures} == {a.digest for a in bench_space().architectures()}
    assert table.made.any()
    assert np.all(table.correct[table.made] <= table.meta["num_val"])
    assert np.isfinite(table.cost_s[table.made]).all()
    assert np.isnan(table.accuracy[~table.made]).all()
    makers = table.meta["makers"]
    assert all(maker["packages"]["torch"] and maker["code"] for maker in makers)
    assert table.maker[table.made].max() < len(makers)


def test_rows_begin_with_the_uniform_networks_and_all_seeds_of_one_come_before_the_next() -> None:
    table = load_table()
    uniform = [len({stage.pattern for stage in a.stages}) == 1 for a in table.architectures]
    assert uniform == [True] * 5 + [False] * 620
    assert table.architectures[0].is_plain
    begun = table.made.any(1)
    assert not begun[np.argmin(begun) + 8 :].any() or begun.all()  # but for runs that were under way


def test_a_score_is_read_by_digest_seed_and_epoch(additive: Table) -> None:
    for row in (0, 17, 624):
        found = additive.score(additive.architectures[row].digest, seed=1, epoch=9)
        assert found == pytest.approx(additive_quality()[row], abs=1 / NUM_VAL)
    assert additive.score(additive.architectures[0].digest, seed=1, epoch=3) == pytest.approx(0.4 / 3, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "0" * 16}, "no architecture '0000000000000000' in the table of 625"),
        ({"seed": 3}, "seed: expected one of 0, 1, 2, got 3"),
        ({"epoch": 0}, "epoch: expected 1 to 9, got 0"),
        ({"epoch": 10}, "epoch: expected 1 to 9, got 10"),
        ({"row": 40}, "has not been trained with seed 0 yet"),
    ],
)
def test_what_is_not_there_is_one_line(changes: dict[str, object], message: str) -> None:
    table = planted(additive_quality(), num_rows=40)
    given = {"seed": 0, "epoch": 1, **changes}
    row = given.pop("row", 0)
    digest = given.pop("digest", table.architectures[int(str(row))].digest)
    with pytest.raises(UserError, match=re.escape(message)):
        table.score(str(digest), **given)  # type: ignore[arg-type]


def test_a_file_gives_back_what_was_written(noisy: Table, tmp_path: Path) -> None:
    noisy.save(tmp_path / "table.npz")
    again = load_table(tmp_path / "table.npz")
    assert again.architectures == noisy.architectures
    assert again.meta == noisy.meta
    assert np.array_equal(again.correct, noisy.correct)


def test_a_partial_table_keeps_only_what_every_seed_has_trained(tmp_path: Path) -> None:
    table = planted(additive_quality(), num_rows=40)
    table.correct[7, 2] = MISSING
    whole = table.complete()
    assert whole.architectures == (*table.architectures[:7], *table.architectures[8:40])
    assert whole.made.all()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda content: content[:1000], "not a table of FusionBench"),
        (lambda content: b"", "not a table of FusionBench"),
    ],
)
def test_a_torn_file_is_one_line(additive: Table, tmp_path: Path, harm: object, message: str) -> None:
    path = tmp_path / "table.npz"
    path.write_bytes(harm(additive.to_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        load_table(path)


def test_objects_are_never_unpickled(additive: Table, tmp_path: Path) -> None:
    poisoned = replace(additive, cost_s=np.array([{"a": 1}] * 625, dtype=object))  # type: ignore[arg-type]
    poisoned.save(tmp_path / "table.npz")
    with pytest.raises(UserError, match="not a table of FusionBench: Object arrays cannot be loaded"):
        load_table(tmp_path / "table.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema: expected 1, got 2"),
        ({"seeds": [0, 1]}, "was made by another recipe"),
        ({"training": {"epochs": 5}}, "was made by another recipe"),
    ],
)
def test_another_recipe_is_refused(additive: Table, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    replace(additive, meta={**additive.meta, **changes}).save(tmp_path / "table.npz")
    with pytest.raises(UserError, match=message):
        load_table(tmp_path / "table.npz")


def test_a_digest_that_belongs_to_another_architecture_is_refused(additive: Table, tmp_path: Path) -> None:
    first, second, *others = additive.architectures
    changed = replace(additive, architectures=(second, first, *others))
    content = dict(np.load(_written(changed, tmp_path), allow_pickle=False))
    content["digests"] = np.array([a.digest for a in additive.architectures])
    np.savez_compressed(tmp_path / "changed.npz", **content)
    with pytest.raises(UserError, match="a digest does not belong to its architecture"):
        load_table(tmp_path / "changed.npz")


def _written(table: Table, folder: Path) -> Path:
    table.save(folder / "table.npz")
    return folder / "table.npz"


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_table(tmp_path / "none.npz")
