"""Studies that score candidates cheaply and train the best of them."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from nas.study.store.reader import Study, calibrations_in, open_study, study_names

from .conftest import write_study

Nas = Callable[..., tuple[int, str, str]]
SMALLEST = {"architectures": 8, "seeds": 2, "brief_epochs": [1], "fractions": [], "shared_epochs": [1], "networks": 1}


def candidates_of(url: str) -> Study:
    found = open_study(url, "tiny").candidates()
    assert found is not None
    return found


def test_finalists_of_a_shared_network_are_trained_and_exported(nas: Nas, tmp_path: Path) -> None:
    estimate = {"by": "shared", "candidates": 12, "networks": 2, "norm_images": 64}
    file, url = write_study(tmp_path, estimate=estimate, trials=5), f"sqlite:///{tmp_path / 'nas.db'}"
    code, out, err = nas("search", file, "--storage", url)
    assert (code, "5 of 5 trials" in out) == (0, True), err
    assert "12 of 12 candidates scored by the mean of 2 shared networks (1 epoch); the best of them are trained" in out
    ranking = [a.digest for a in candidates_of(url).ranking()]
    trained = open_study(url, "tiny").trials()
    landmarks = {t.digest for t in trained[:3]}
    assert [t.digest for t in trained[3:]] == [digest for digest in ranking if digest not in landmarks][:2]

    code, _, err = nas("export", "tiny", "--trial", 3, "-o", tmp_path / "a.yaml", "--storage", url)
    assert code == 0, err
    assert (
        yaml.safe_load((tmp_path / "a.yaml").read_text())["provenance"]["val_accuracy"]
        == trained[3].epochs[-1].val_accuracy
    )

    status = json.loads(nas("status", "tiny", "--storage", url, "--json")[1])
    assert status["candidates"] == {"by": "shared", "ended": 12, "target": 12, "epochs": 1} | {
        "networks": 2,
        "trainings": None,
    }
    code, out, err = nas("resume", "tiny", "--trials", 6, "--storage", url)
    assert (code, "6 of 6 trials" in out) == (0, True), err
    assert open_study(url, "tiny").trials()[5].digest == [d for d in ranking if d not in landmarks][2]


def test_finalists_of_a_predictor_are_trained_after_the_full_trainings_that_it_needs(nas: Nas, tmp_path: Path) -> None:
    estimate = {"by": "predictor", "candidates": 12}
    file = write_study(tmp_path, estimate=estimate, calibrate=SMALLEST, trials=5)
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    code, out, err = nas("search", file, "--storage", url)
    assert (code, "5 of 5 trials" in out) == (0, True), err
    assert "calibrating 'tiny', 8 architectures × 2 seeds: 16 runs to do" in err, "nothing is held against them"
    assert "12 of 12 candidates scored by a predictor of 16 full trainings (1 epoch)" in out
    ranking = [a.digest for a in candidates_of(url).ranking()]
    trained = open_study(url, "tiny").trials()
    assert [t.digest for t in trained[3:]] == [d for d in ranking if d not in {t.digest for t in trained[:3]}][:2]
    page = (tmp_path / "tiny" / "report.html").read_text()
    assert "a predictor of 16 full trainings" in page
    assert "points that its fusion adds to the plain network: stage 1 " in page
    settings = open_study(url, "tiny").provenance["calibration"]["settings"]
    asked_for = "the predictor ranks the candidates all the same, because the study file asks for it" in err
    assert asked_for == (settings["by"] != "predictor")


def test_a_dry_run_counts_the_calibration(nas: Nas, tmp_path: Path) -> None:
    changes = {"estimate": {"by": "predictor", "candidates": 12}, "calibrate": SMALLEST}
    code, out, err = nas("search", write_study(tmp_path, **changes), "--dry-run")
    assert code == 0, err
    assert "calibration 16 trainings before, " in out


def test_a_time_limit_ends_shared_networks_too(nas: Nas, tmp_path: Path) -> None:
    estimate = {"by": "shared", "candidates": 12, "networks": 1}
    file = write_study(tmp_path, estimate=estimate, training={"epochs": 500}, trials=5)
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    code, out, err = nas("search", file, "--storage", url, "--timeout", "15s")
    assert (code, "0 of 5 trials" in out) == (1, True), err  # there is no network that could be exported
    assert "stopped before the end, running trials wait again; go on with: nas resume tiny" in err


def test_a_search_begins_with_its_calibration_and_goes_on_with_it(nas: Nas, tmp_path: Path) -> None:
    file = write_study(tmp_path, estimate={"by": "auto", "candidates": 9}, calibrate=SMALLEST, trials=3)
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    code, out, err = nas("search", file, "--storage", url, "--timeout", "0.01s")
    assert (code, out) == (0, "")
    assert "stopped before the end, running trainings wait again; the same command goes on from here" in err
    assert study_names(url) == []
    code, out, err = nas("search", file, "--storage", url)
    assert (code, "3 of 3 trials" in out) == (0, True), err
    assert "calibrating 'tiny', 8 architectures × 2 seeds: 25 runs to do, 1 worker" in err
    (companion,) = calibrations_in(url, "tiny")
    assert companion.num_ended() == 25
    calibration = open_study(url, "tiny").provenance["calibration"]
    assert calibration["advice"] in err
    assert (open_study(url, "tiny").candidates() is None) == (calibration["settings"]["by"] == "full")
    assert "calibrating" not in nas("search", file, "--storage", url)[2], "a stored study has its estimator"
