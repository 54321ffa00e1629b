"""Tiny studies on the real digits: one epoch on 128 images a trial."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas.cli import main

TINY: dict[str, Any] = {
    "schema": 1,
    "name": "tiny",
    "space": "patterns",
    "backbone": {"name": "resnet_micro", "stem": "small"},
    "data": {"source": "digits", "num_train": 128},
    "training": {"epochs": 1, "batch_size": 64},
    "landmarks": ["plain", "se-everywhere", "dual-default"],
    "trials": 6,
    "workers": 1,
}


def write_study(folder: Path, **changes: object) -> Path:
    """A study file in ``folder``: the tiny study with changes.

    A worker has one thread: more of them wait for each other by spinning, where other tests want the cores too.
    """
    content = {**TINY, **changes}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**content, "training": {"threads": 1, **content["training"]}}))
    return path


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; gives exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(a) for a in arguments])
        return (code, *capfd.readouterr())

    return run
