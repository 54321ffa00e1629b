"""A study of two objectives with a constraint from its file to its front, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from nas.architecture import Architecture
from nas.study.store.reader import open_study

from .conftest import write_study
from .test_errors import refused

Nas = Callable[..., tuple[int, str, str]]
TWO = {
    "objectives": {"val_accuracy": "maximize", "params": "minimize"},
    "constraints": ["params <= 1.003 * plain", "macs <= 2 * plain"],
    "training": {"epochs": 2, "batch_size": 64},
    "pruner": {"reduction_factor": 2},
    "sampler": "nsga2",
    "landmarks": ["plain", "se-everywhere"],
    "trials": 6,
}


@pytest.mark.usefixtures("forked_verification")
def test_from_the_file_to_the_front(nas: Nas, tmp_path: Path) -> None:
    file, url = write_study(tmp_path, **TWO), f"sqlite:///{tmp_path / 'nas.db'}"
    code, out, err = nas("search", file, "--storage", url)
    assert code == 0, err
    assert "that none beats in every objective" in out
    assert f"nas export tiny --storage {url} --trial front -o {tmp_path / 'tiny' / 'front'}" in err

    every = json.loads(nas("trials", "tiny", "--json", "--storage", url)[1])
    refused_ones = [t for t in every if (t["reason"] or "").startswith("infeasible: params")]
    trained = [t for t in every if t["epochs"]]
    assert len(trained) == TWO["trials"], "what breaks a constraint takes no place of one that is trained"
    assert every[1] in refused_ones, "se-everywhere has too many parameters"
    assert {t["epochs"] for t in refused_ones} == {0}
    plain = every[0]
    assert all(t["num_params"] <= 1.003 * plain["num_params"] for t in trained)
    assert all(t["num_params"] > 1.003 * plain["num_params"] for t in refused_ones)
    assert len({t["digest"] for t in every}) == len(every)

    complete = [t for t in trained if t["state"] == "complete"]
    expected = {
        t["number"]
        for t in complete
        if not any(
            o["score"] >= t["score"]
            and o["num_params"] <= t["num_params"]
            and (o["score"], o["num_params"]) != (t["score"], t["num_params"])
            for o in complete
        )
    }
    assert {t["number"] for t in every if t["front"]} == expected
    assert all(t["values"] == {"val_accuracy": t["score"], "params": t["num_params"]} for t in trained)
    status = json.loads(nas("status", "tiny", "--json", "--storage", url)[1])
    assert status["objectives"] == TWO["objectives"]
    assert {t["number"] for t in status["front"]} == expected
    assert status["states"]["pruned"] == sum(t["state"] == "pruned" for t in every)

    folder = tmp_path / "front"
    assert nas("export", "tiny", "--trial", "front", "-o", folder, "--storage", url)[0] == 0
    files = {f"trial-{number}.yaml" for number in expected}
    assert {path.name for path in folder.iterdir()} == files
    digests = {Architecture.load(path).digest for path in folder.iterdir()}
    assert digests == {every[number]["digest"] for number in expected}
    provenance = yaml.safe_load((folder / min(files)).read_text())["provenance"]
    assert provenance["objectives"].keys() == TWO["objectives"].keys()

    code, out, err = nas("report", "tiny", "-o", tmp_path / "report.html", "--storage", url)
    assert (code, err) == (0, "")
    one = len(expected) == 1
    assert out.startswith(f"{tmp_path / 'report.html'}: {len(expected)} network{'' if one else 's'} that none beats")
    page = (tmp_path / "report.html").read_text()
    assert "params &lt;= 1.003 * plain" in page
    assert f"{len(refused_ones)} of {len(every)}" in page


def test_a_dry_run_stores_nothing(nas: Nas, tmp_path: Path) -> None:
    file, url = write_study(tmp_path, **TWO), f"sqlite:///{tmp_path / 'nas.db'}"
    code, out, err = nas("search", file, "--dry-run", "--storage", url)
    assert code == 0, err
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(("one", "in all")))
    assert lines["space"] == "patterns: 625 architectures"
    assert set(lines["objectives"].split(", ")) == {"val_accuracy ↑", "params ↓"}
    assert lines["sampler"] == "nsga2; pruner asha"
    assert "first" in lines
    bites = [line.split(maxsplit=1)[1] for line in out.splitlines() if line.startswith("constraint")]
    assert [text.split(": ")[0] for text in bites] == TWO["constraints"]
    assert [text.split(": ")[1] == "0% of random candidates break it" for text in bites] == [False, True]
    assert "a trial" not in err
    assert not (tmp_path / "nas.db").exists()


GOALS = {"val_accuracy": "maximize", "latency_ms": "minimize"}
BAD = [
    ({"objectives": {"val_accuracy": "maximize", "latency_ms": None}}, "latency_ms: expected a direction"),
    (
        {"objectives": GOALS, "pruner": {"name": "hyperband"}},
        "hyperband knows one objective only; expected asha or none",
    ),
    ({"constraints": ["params <= lots"]}, "got 'lots' for the number"),
    ({"sampler": "grid", "space": "full"}, "57,229,203,325 architectures, at most"),
    ({"sampler": "gp", "space": "full"}, "expected a space that asks the same of all"),
    ({"sampler": "cmaes"}, "sampler: "),
    ({"constraints": ["params <= 0.5 * plain"]}, "the nearest has params 308538 > 154269"),
]


@pytest.mark.parametrize(("changes", "said"), BAD)
def test_what_is_refused(nas: Nas, tmp_path: Path, changes: dict[str, object], said: str) -> None:
    url = f"sqlite:///{tmp_path / 'db' / 'nas.db'}"
    assert said in refused(nas, "search", write_study(tmp_path, **changes), "--storage", url)
    assert not (tmp_path / "db" / "nas.db").exists()


def test_a_dry_run_refuses_too(nas: Nas, tmp_path: Path) -> None:
    changes, said = BAD[3]
    code, out, err = nas("search", write_study(tmp_path, **changes), "--dry-run")
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]


def test_a_front_of_nothing(nas: Nas, tmp_path: Path) -> None:
    from nas.study.config import StudyConfig
    from nas.study.launch.create import create_study
    from tests.study.conftest import SUMMARY

    url = f"sqlite:///{tmp_path / 'nas.db'}"
    create_study(StudyConfig(name="s", space="patterns", objectives=GOALS), "", url, lambda _: SUMMARY)
    line = refused(nas, "export", "s", "--trial", "front", "-o", tmp_path / "front", "--storage", url)
    assert "has no complete trial yet" in line
    assert not (tmp_path / "front").exists()
    assert open_study(url, "s").front() == ()
