"""Fixtures for several folders."""

from collections.abc import Iterator

import pytest

from . import postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server
