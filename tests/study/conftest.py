"""A study in a database of its own, without any training."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest

from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.store.optuna_storage import close_storage, open_storage
from nas.study.store.reader import Study, open_study
from nas.study.store.trials import Ledger
from nas.study.store.urls import sqlite_path
from nas.study.store.workers import join
from nas.training.summary import DataSummary

if TYPE_CHECKING:
    from tests.postgres import Server

SUMMARY = DataSummary(
    source="digits",
    class_names=tuple("0123456789"),
    class_counts=(100,) * 10,
    in_chans=1,
    image_size=8,
    num_train=1000,
    num_val=360,
    num_test=360,
    fingerprint="f" * 64,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind: what holds for one must hold for the other."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'nas.db'}"
    server: Server = request.getfixturevalue("postgres_server")
    return server.url()


@pytest.fixture
def config() -> StudyConfig:
    return StudyConfig(name="s", space="patterns", trials=12)


@pytest.fixture(scope="session")
def new_studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of SQLite databases that hold one new study each: Optuna takes a third of a second to make one."""
    return tmp_path_factory.mktemp("new")


@pytest.fixture
def stored(config: StudyConfig, url: str, new_studies: Path) -> Study:
    if (path := sqlite_path(url)) is None:
        return create_study(config, "name: s", url, lambda _: SUMMARY)
    settings = json.dumps(config.to_dict(), sort_keys=True).encode()
    new = new_studies / f"{hashlib.sha256(settings).hexdigest()}.db"
    if not new.exists():
        create_study(config, "name: s", f"sqlite:///{new}", lambda _: SUMMARY)
    with closing(sqlite3.connect(new)) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
    return open_study(url, config.name)


@pytest.fixture
def storage(stored: Study) -> Iterator[optuna.storages.RDBStorage]:
    storage = open_storage(stored.url)
    yield storage
    close_storage(storage)


@pytest.fixture
def ledger(storage: optuna.storages.RDBStorage, stored: Study) -> Ledger:
    ledger = Ledger(storage.engine, stored.study_id, "w1")
    join(storage.engine, stored.study_id, ledger.worker_id, "cpu")
    return ledger


@pytest.fixture
def space(stored: Study) -> SearchSpace:
    return SearchSpace.from_dict(stored.space)
