"""A made-up study for the tests of the report."""

import pytest

from nas.study.records import Study

from .synthetic import synthetic


@pytest.fixture(scope="package")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A hundred trials."""
    return synthetic(f"sqlite:///{tmp_path_factory.mktemp('db') / 'nas.db'}", 100)
