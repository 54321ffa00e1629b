"""`benchmarks/gpu.py` on a CPU: parts at their smallest, the stored results, the table."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu


@pytest.mark.parametrize("part", ["micro", "launches", "loading"])
def test_parts_run_at_their_smallest(part: str) -> None:
    assert gpu.ROWS[part](gpu.PARTS[part]("cpu"))


def test_the_stored_results_make_a_table() -> None:
    results = json.loads(gpu.RESULTS.read_text())
    table = gpu.report(results)
    assert all(one["machine"]["card"] in table for one in results.values())
    assert gpu.PAGE.read_text(encoding="utf-8").count(table) == 1


def test_parts_that_are_stored_are_skipped_and_broken_ones_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, measured = {"card": "none"}, []

    def measure(part: str, _device: str, _limit_s: float) -> Any:
        measured.append(part)
        return {gpu.FAILED: "broken"} if part == "loading" else {"in memory": 1.0}

    monkeypatch.setattr(gpu, "PARTS", dict.fromkeys(("loading", "scores"), lambda _: None))
    monkeypatch.setattr(gpu, "machine", lambda _: dict(here))
    monkeypatch.setattr(gpu, "measure", measure)
    path, results = tmp_path / "gpu.json", {}
    gpu.run(results, None, "cpu", 1.0, path)
    gpu.run(results, None, "cpu", 1.0, path)
    assert measured == ["loading", "scores", "loading"]
    gpu.run(results, ["scores"], "cpu", 1.0, path)
    assert measured[-1] == "scores"
    assert json.loads(path.read_text()) == results
    here["card"] = "another"
    gpu.run(results, None, "cpu", 1.0, path)
    assert measured[-2:] == ["loading", "scores"]
