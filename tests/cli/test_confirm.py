"""``nas confirm``: fresh seeds, the test part once, a verdict, and a winner to take away."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import timm
import torch

from nas.architecture import Architecture
from nas.cli import main
from nas.study.config import StudyConfig
from nas.study.confirm.judge import CANDIDATES_KEY, judged
from nas.study.confirm.prepare import FIRST_SEED, candidates_for, prepare_confirmation
from nas.study.launch.create import create_study
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.store import tables
from nas.study.store.engine import open_engine
from nas.study.store.reader import Study, open_study, study_names
from nas.training.config import DataConfig
from nas.training.data.digits import digits_of
from tests import warm
from tests.study.conftest import SUMMARY
from tests.study.test_crash import LIMIT_S, wait_for, worker_pids

from .conftest import write_study
from .test_errors import refused

Nas = Callable[..., tuple[int, str, str]]
TOP, SEEDS = 2, 2


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of six trials of one epoch."""
    folder = tmp_path_factory.mktemp("searched")
    file = write_study(folder, landmarks=["plain", "se-everywhere"], trials=5)
    assert main(["search", str(file), "--storage", f"sqlite:///{folder / 'nas.db'}"]) == 0
    return folder


def copy_of(searched: Path, folder: Path) -> Study:
    """The study in a database of its own."""
    shutil.copytree(searched, folder, dirs_exist_ok=True)
    return open_study(f"sqlite:///{folder / 'nas.db'}", "tiny")


def command(study: Study, *more: object) -> list[str]:
    return ["confirm", "tiny", "--top", str(TOP), "--seeds", str(SEEDS), "--storage", study.url, *map(str, more)]


def results(study: Study) -> list[tuple[object, ...]]:
    """What may not depend on how often a confirmation was broken off."""
    return [
        (part.config["seed"], r.digest, r.score, part.test_results()[r.digest].tolist())
        for part in study.confirmations()
        for r in part.trials()
        if r.digest
    ]


@pytest.fixture(scope="module")
def confirmed(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = copy_of(searched, tmp_path_factory.mktemp("confirmed"))
    assert main(command(study)) == 0
    return study


def test_every_network_has_every_seed_and_was_tested_once(confirmed: Study) -> None:
    parts = confirmed.confirmations()
    assert [part.config["seed"] for part in parts] == [FIRST_SEED, FIRST_SEED + 1]
    best = sorted(
        (t for t in confirmed.trials() if t.state == "complete" and t.landmark != "plain"),
        key=lambda t: (-(t.score or 0), t.number),
    )[:TOP]
    for part in parts:
        trials = part.trials()
        assert {t.digest for t in trials} >= {t.digest for t in best} | {confirmed.trials()[0].digest}
        assert {t.landmark for t in trials} >= {"plain", "se-everywhere"}
        assert all((t.state, len(t.epochs), t.seed) == ("complete", 1, part.config["seed"]) for t in trials)
        assert part.config["guard"]["thresholds"]["non-finite"] is None  # nobody stops a training
    with open_engine(confirmed.url).connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.tests)) == len(results(confirmed))
    assert study_names(confirmed.url) == ["tiny"]
    assert [t.score for t in parts[0].trials()] != [t.score for t in parts[1].trials()]


@pytest.mark.usefixtures("forked_verification")
def test_what_is_exported_has_the_accuracy_that_was_tested(
    nas: Nas, confirmed: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judged(confirmed)
    assert found is not None
    assert nas("recover", "tiny", "--storage", confirmed.url)[0] == 0  # takes none of the weights for orphans
    code, out, err = nas(
        "export",
        "tiny",
        "--storage",
        confirmed.url,
        "--trial",
        "confirmed",
        "--format",
        "timm",
        "-o",
        tmp_path / "best",
    )
    assert code == 0, err
    assert "logits differ by at most 0, " in out
    card = (tmp_path / "best" / "README.md").read_text()
    assert f"| mean test accuracy | {found.winner.test.value:.4f} | {found.plain.test.value:.4f} |" in card
    assert f"test accuracy is {found.winner.network.scores[0]:.4f}" in card
    model = timm.create_model(f"local-dir:{tmp_path / 'best'}", pretrained=True).eval()
    config = StudyConfig.parse(confirmed.config, "").data
    parts = digits_of(DataConfig.model_validate(config.model_dump()))
    mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] * 255 for key in ("mean", "std"))
    with torch.inference_mode():
        images = (torch.from_numpy(parts["test"].images).float() - mean) / std
        correct = (model(images).argmax(1) == torch.from_numpy(parts["test"].labels)).numpy()
    assert (correct != found.winner.network.correct[0]).sum() <= 1  # float rounding of the pixels
    code, *_ = nas("export", "tiny", "--storage", confirmed.url, "--trial", "confirmed", "-o", tmp_path / "best.yaml")
    assert (code, Architecture.load(tmp_path / "best.yaml").digest) == (0, found.winner.network.digest)
    kept = list(CheckpointFolder(confirmed.confirmations()[0]).folder.glob("*.ckpt"))
    assert len(kept) == 2  # the winner's and the plain network's, of the first seed
    assert not list(CheckpointFolder(confirmed.confirmations()[1]).folder.glob("*.ckpt"))


def test_the_verdict_is_said_everywhere(nas: Nas, confirmed: Study, tmp_path: Path) -> None:
    code, out, err = nas(*command(confirmed))
    assert (code, err) == (0, "")
    sentence = out.splitlines()[0]
    assert "the plain network" in sentence
    assert f"{SEEDS} seeds, 359 test images" in sentence
    assert "latency of its winner" in out
    assert sentence in nas("status", "tiny", "--storage", confirmed.url)[1]
    content = json.loads(nas(*command(confirmed, "--json"))[1])
    assert content["verdict"] == sentence
    rows = {row["label"]: row for row in content["networks"]}
    assert rows["plain"]["above_plain"] is None
    assert sum(row["candidate"] for row in rows.values()) == TOP
    for row in rows.values():
        assert row["test"]["value"] == pytest.approx(np.mean(row["test"]["scores"]))
    winner = max((row for row in rows.values() if row["candidate"]), key=lambda row: row["val"]["value"])
    assert content["winner"] == winner["digest"]
    plain = np.array(rows["plain"]["test"]["scores"])
    assert winner["above_plain"]["value"] == pytest.approx(np.mean(winner["test"]["scores"] - plain))
    page = tmp_path / "report.html"
    assert nas("report", "tiny", "--storage", confirmed.url, "-o", page)[0] == 0
    assert sentence in page.read_text().replace("&#39;", "'")


def test_more_seeds_and_networks_are_added(confirmed: Study, tmp_path: Path) -> None:
    study = copy_of(Path(confirmed.url.removeprefix("sqlite:///")).parent, tmp_path / "copy")
    before = study.confirmations()[0].trials()
    prepare_confirmation(study, top=TOP + 1, num_seeds=SEEDS + 1)
    prepare_confirmation(study, top=1, num_seeds=SEEDS)  # what is there stays
    parts = study.confirmations()
    assert [part.config["seed"] - FIRST_SEED for part in parts] == [0, 1, 2]
    assert parts[0].trials()[: len(before)] == before
    networks = {t.digest for t in parts[0].trials()}
    candidates = {t.digest for t in candidates_for(study, TOP + 1)}
    assert candidates | {t.digest for t in before} == networks
    assert set(parts[2].provenance[CANDIDATES_KEY]) == candidates
    for part in parts:
        assert {t.digest for t in part.trials()} == networks
        assert part.target == len(networks) == len(part.trials())
    assert judged(study) is None


def test_killed_and_interrupted_it_is_the_same_confirmation(searched: Path, confirmed: Study, tmp_path: Path) -> None:
    study = copy_of(searched, tmp_path / "copy")
    launcher = warm.Command(*command(study))
    wait_for(lambda: worker_pids(study.url))
    killed = worker_pids(study.url)[0]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: set(worker_pids(study.url)) - {killed})  # the one that replaces it: it has just begun
    launcher.send_signal(signal.SIGINT)
    _, err = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 130, err
    assert "the same command goes on from here" in err
    assert not any(t.state == "running" for part in study.confirmations() for t in part.trials())
    again = warm.run(*command(study))
    assert again.returncode == 0, again.stderr
    assert results(study) == results(confirmed)


def test_refusals(nas: Nas, searched: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY)
    assert "study 's' has no complete trial beside the plain network yet" in refused(
        nas, "confirm", "s", "--storage", url
    )
    study = copy_of(searched, tmp_path / "copy")
    for arguments, said in (
        (("--top", 9), "--top: 9 asked for, but study 'tiny' has 4 complete trials beside the plain network"),
        (("--top", 0), "Invalid value for '--top'"),
        (("--seeds", 1), "Invalid value for '--seeds'"),
        (("--workers", "many"), "expected a positive number or auto"),
    ):
        assert said in refused(nas, "confirm", "tiny", "--storage", study.url, *arguments)
    assert "has no finished confirmation; do or finish it: nas confirm tiny" in refused(
        nas, "export", "tiny", "--storage", study.url, "--trial", "confirmed", "-o", tmp_path / "a.yaml"
    )
    assert study.confirmations() == []
