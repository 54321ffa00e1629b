"""A wrong input is one line and exit code 2, and nothing is written."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from tests.study.conftest import SUMMARY

from .conftest import write_study

Nas = Callable[..., tuple[int, str, str]]


def refused(nas: Nas, *arguments: object) -> str:
    """The one line with which a command is refused."""
    code, out, err = nas(*arguments)
    lines = [line for line in err.splitlines() if not line.startswith(("creating study", "reading"))]
    assert (code, out, len(lines)) == (2, "", 1), (code, out, err)
    assert lines[0].startswith("nas: ")
    return lines[0]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'db' / 'nas.db'}"


@pytest.fixture
def stored(url: str) -> str:
    create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY)
    return url


NOWHERE = [
    (("--devices", "97"), r"device: 'cuda:97' asked for, but this machine has (none|\d+) of that kind"),
    (("--set", "training.device=cuda:97"), r"device: 'cuda:97' asked for"),
    (("--seed", str(2**32)), r"seed: .*less than 4294967296, got 4294967296"),
    (("--engine", "slurm", "--devices", "cpu"), r"cannot share an SQLite file; use --storage postgresql://"),
    (
        ("--engine", "slurm", "--engine-set", "cluster=local", "--engine-set", "color=red"),
        r"--engine slurm: .*'color'",
    ),
    (("--set", "sampler=gp"), r"gp"),
]


@pytest.mark.parametrize(("options", "said"), NOWHERE)
def test_what_workers_would_find_out_is_asked_before_anything_is_stored(
    nas: Nas, tmp_path: Path, url: str, options: tuple[str, ...], said: str
) -> None:
    import re

    study = write_study(tmp_path, space="full")
    for dry in ((), ("--dry-run",)):
        line = refused(nas, "search", study, "--storage", url, *options, *dry)
        assert re.search(said, line), line
    assert not (tmp_path / "db").exists()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_trained(
    nas: Nas, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.study.launch.checks.os.access", lambda _, mode: not mode & os.W_OK)
    for dry in ((), ("--dry-run",)):
        line = refused(nas, "search", write_study(tmp_path), "--storage", url, *dry)
        assert f"the folder {tmp_path} is not writable" in line


BAD_FILES = [
    ({"trails": 3}, r"trails: unknown key; known: schema, name"),
    ({"space": "nowhere"}, r"nowhere.*full"),
    ({"backbone": {"name": "vgg16"}}, r"backbone.name: unknown backbone 'vgg16'; known: resnet_micro"),
    ({"trials": 0}, r"trials: .*greater than or equal to 1, got 0"),
    ({"training": {"epochs": -1}}, r"training.epochs: .*got -1"),
    ({"training": {"learning_rate": "fast"}}, r"training.learning_rate: .*got 'fast'"),
    ({"guard": {"thresholds": {"boredom": 1}}}, r"guard.thresholds: unknown signal 'boredom'"),
    ({"landmarks": ["nowhere"]}, r"landmarks: unknown landmark 'nowhere'; known: plain"),
    ({"data": {"source": "digits", "num_train": 99999}}, r"num_train: 99999 asked for"),
    ({"data": {"source": "folder:/does/not/exist"}}, r"/does/not/exist"),
    ({"schema": 2}, r"schema: .*got 2"),
    ({"training": {"init_from": "none.safetensors"}}, r"none.safetensors"),
]


@pytest.mark.parametrize(("changes", "said"), BAD_FILES)
def test_study_files(nas: Nas, tmp_path: Path, url: str, changes: dict[str, object], said: str) -> None:
    import re

    line = refused(nas, "search", write_study(tmp_path, **changes), "--storage", url)
    assert re.search(said, line), line
    assert not (tmp_path / "db").exists()


BAD_YAML = ["name: {{study}}", "? [a, b]\n: 1", "day: 2024-02-30", "name: \x07", "a: 1\na: 2", "a: [1", "- 1"]


@pytest.mark.parametrize("text", BAD_YAML)
def test_yaml_that_cannot_be_read(nas: Nas, tmp_path: Path, url: str, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert str(file) in refused(nas, "search", file, "--storage", url)
    assert not (tmp_path / "db").exists()


SPACES = [
    ("choices: {pattern: [p1, p7]}", "p7"),
    ("choices: {attention: [se, magic]}", "magic"),
    ("choices: {reduction: [0]}", "reduction"),
    ("choices: {gamma_skip_init: [0.5], gamma_residual_init: [0.1]}", "gamma_skip_init"),
]


@pytest.mark.parametrize(("text", "said"), SPACES)
def test_space_files(nas: Nas, tmp_path: Path, url: str, text: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"schema: 1\nextends: full\n{text}\n")
    line = refused(nas, "search", write_study(tmp_path, space="mine.yaml"), "--storage", url)
    assert said in line
    assert "mine.yaml" in line
    assert not (tmp_path / "db").exists()


def test_data_folders(nas: Nas, tmp_path: Path, url: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    file = write_study(tmp_path, data={"source": f"folder:{folder}", "image_size": 16})
    assert str(folder) in refused(nas, "search", file, "--storage", url)
    for label in ("cat", "dog"):
        (folder / label).mkdir()
        for i in range(8):
            pixels = np.full((16, 16, 3), 20 * i, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    broken = folder / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert str(broken) in refused(nas, "search", file, "--storage", url)
    assert not (tmp_path / "db").exists()


def test_a_study_file_that_differs_from_the_stored_study(nas: Nas, tmp_path: Path, stored: str) -> None:
    line = refused(nas, "search", write_study(tmp_path, name="s"), "--storage", stored)
    assert "data.num_train: stored None, given 128" in line
    assert "Only trials, workers, timeout_s and tracking may change" in line


def test_names_that_do_not_exist(nas: Nas, tmp_path: Path, stored: str) -> None:
    for command in (("status",), ("trials",), ("resume",), ("export", "-o", tmp_path / "x.yaml")):
        assert "no study named 'other'; studies: s" in refused(nas, *command, "other", "--storage", stored)
    export = ("export", "s", "--storage", stored, "-o", tmp_path / "x.yaml")
    assert "trials: 0 to 5" in refused(nas, *export, "--trial", "77")
    assert "no complete trial yet" in refused(nas, *export)
    assert "expected best, confirmed, front or the number" in refused(nas, *export, "--trial", "first")
    assert "no architecture yet: it is waiting" in refused(nas, *export, "--trial", "0")
    assert not (tmp_path / "x.yaml").exists()


def test_databases(nas: Nas, tmp_path: Path, stored: str) -> None:
    assert "no such database" in refused(nas, "status", "--storage", f"sqlite:///{tmp_path}/none.db")
    other = tmp_path / "text.db"
    other.write_text("not a database at all, but long enough to be mistaken for one" * 50)
    file = write_study(tmp_path)
    for command in (("status",), ("search", file)):
        assert "not an SQLite database" in refused(nas, *command, "--storage", f"sqlite:///{other}")
    engine = sa.create_engine(stored)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE nas_schema SET version = 99")
    engine.dispose()
    for command in (("status",), ("search", file)):
        assert "database schema 99" in refused(nas, *command, "--storage", stored)


def test_a_server_that_cannot_be_reached_and_a_password_that_is_never_told(nas: Nas, tmp_path: Path) -> None:
    url = "postgresql://me:hunter2@127.0.0.1:1/x"
    file = write_study(tmp_path)
    for command in (("search", file), ("status",), ("worker", "s"), ("recover", "s"), ("resume", "s")):
        code, _, err = nas(*command, "--storage", url)
        assert (code, len(err.splitlines())) == (1, 1)
        assert "postgresql://me:***@127.0.0.1:1/x: " in err
        assert "hunter2" not in err


def test_engines(nas: Nas, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_study(tmp_path)
    search = ("search", file, "--storage", url)
    assert "--workers: expected a positive number or auto, got '0'" in refused(nas, *search, "--workers", "0")
    assert "CPU cores take" in refused(nas, *search, "--devices", "cpu", "--workers", "5000")
    assert "but 1 device takes 1" in refused(nas, *search, "--devices", "3", "--workers", "2")
    assert "different numbers of GPUs" in refused(nas, *search, "--devices", "0,0")
    assert "per-device" in refused(nas, *search, "--per-device", "0")
    assert "only --engine slurm has options" in refused(nas, *search, "--engine-set", "partition=gpu")
    assert "expected KEY=VALUE" in refused(nas, *search, "--engine", "slurm", "--engine-set", "gpu")
    assert "local" in refused(nas, *search, "--engine", "kubernetes")
    monkeypatch.setattr("nas.study.launch.engines.find_spec", lambda _: None)
    for engine in ("ray", "slurm"):
        assert f"uv pip install 'fusion-nas[{engine}]'" in refused(nas, *search, "--engine", engine)
    assert not (tmp_path / "db").exists()


def test_a_read_only_database_can_be_read_but_not_searched(
    nas: Nas, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Permissions do not bind root, which tests may run as; what the system would answer is put in its mouth.
    monkeypatch.setattr("nas.study.store.engine.os.access", lambda path, mode: mode != os.W_OK)
    assert nas("status", "--storage", stored)[0] == 0
    assert "read-only" in refused(nas, "resume", "s", "--storage", stored)


def test_options(nas: Nas, tmp_path: Path, stored: str) -> None:
    file = write_study(tmp_path)
    assert "--workers: expected a positive number" in refused(nas, "search", file, "--workers", "many")
    assert "--timeout: expected a duration" in refused(nas, "search", file, "--timeout", "soon")
    assert "expected KEY=VALUE" in refused(nas, "search", file, "--set", "epochs")
    assert "--devices: expected" in refused(nas, "search", file, "--devices", "tpu")
    assert "No such command" in refused(nas, "serach")
    assert "no such study file" in refused(nas, "search", tmp_path / "none.yaml")
    assert ".yaml" in refused(nas, "export", "s", "--storage", stored, "-o", tmp_path / "best.txt")
