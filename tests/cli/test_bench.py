import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.conftest import additive_quality, planted

Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    planted(additive_quality(), noise=0.01, num_rows=60).save(tmp_path / "table.npz")
    return tmp_path / "table.npz"


def test_samplers_are_raced_and_printed(nas: Nas, table: Path) -> None:
    command = ("bench", "samplers", "--table", table, "--replays", 2, "--trainings", 3)
    chosen = ("--sampler", "random", "--sampler", "grid", "--pruner", "none")
    code, out, err = nas(*command, *chosen)
    assert (code, err) == (0, "4/4 replays\n")
    assert "over 2 replays on 60 architectures" in out
    assert out.splitlines()[2].split()[:3] == ["sampler", "9", "epochs"]
    found = json.loads(nas(*command, *chosen, "--json")[1])
    assert found["epochs"] == [9, 18, 27]
    assert [(s["sampler"], s["pruner"], len(s["regret"])) for s in found["settings"]] == [
        ("random", "none", 3),
        ("grid", "none", 3),
    ]
    assert found["settings"][0]["above_random"] is None
    assert found["settings"][1]["above_random"]["p_adjusted"] <= 1


def test_estimators_and_effects_are_printed(nas: Nas, table: Path) -> None:
    code, out, _ = nas("bench", "estimators", "--table", table)
    assert code == 0
    assert "after 8 epochs" in out
    code, out, _ = nas("bench", "effects", "--table", table)
    assert code == 0
    assert "60 architectures × 3 seeds" in out
    found = json.loads(nas("bench", "effects", "--table", table, "--json")[1])
    assert len(found["marginals"]) == 20
    assert {tuple(part["stages"]) for part in found["components"]} >= {(1,), (2,), (3,), (4,), (1, 4)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sampler", "best"), "nas bench: unknown sampler 'best'; expected one of tpe, random"),
        (("--pruner", "soon"), "nas bench: unknown pruner 'soon'; expected one of none, median, asha"),
        (("--table", "none.npz"), "none.npz: cannot be read: No such file"),
    ],
)
def test_a_mistake_is_one_line(nas: Nas, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = nas("bench", "samplers", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"nas: {message}")
