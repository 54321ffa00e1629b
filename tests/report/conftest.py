"""A made-up study for the tests of the report."""

import pytest

from nas.study.store.reader import Study

from .synthetic import SEVERAL, synthetic


@pytest.fixture(scope="package")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A hundred trials."""
    return synthetic(f"sqlite:///{tmp_path_factory.mktemp('db') / 'nas.db'}", 100)


@pytest.fixture(scope="package")
def several(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A hundred trials of three objectives."""
    return synthetic(f"sqlite:///{tmp_path_factory.mktemp('db') / 'nas.db'}", 100, name="several", **SEVERAL)
