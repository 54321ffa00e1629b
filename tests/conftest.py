"""Fixtures for several folders."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from nas.backbones import BACKBONES, MICRO

from . import postgres, warm


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture
def forked_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are verified in forks; without it, in an interpreter of its own that takes seconds to begin."""
    monkeypatch.setattr("nas.export.verify.subprocess", SimpleNamespace(run=warm.run_verification))


@pytest.fixture
def deep_micro(monkeypatch: pytest.MonkeyPatch) -> None:
    """`resnet_micro` with several blocks a stage: small enough to build by the dozen."""
    monkeypatch.setitem(BACKBONES, MICRO, replace(BACKBONES[MICRO], layers=(2, 1, 3, 2)))
