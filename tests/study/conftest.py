"""A study in a database of its own, without any training."""

from pathlib import Path

import optuna
import pytest

from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.launch import create_study
from nas.study.ledger import Ledger
from nas.study.records import Study
from nas.study.storage import open_storage
from nas.training.data.summary import DataSummary

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


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'nas.db'}"


@pytest.fixture
def config() -> StudyConfig:
    return StudyConfig(name="s", space="patterns", trials=12)


@pytest.fixture
def stored(config: StudyConfig, url: str) -> Study:
    return create_study(config, "name: s", url, lambda _: SUMMARY)


@pytest.fixture
def storage(stored: Study) -> optuna.storages.RDBStorage:
    return open_storage(stored.url)


@pytest.fixture
def ledger(storage: optuna.storages.RDBStorage, stored: Study) -> Ledger:
    ledger = Ledger(storage, stored.study_id, "w1")
    ledger.join("cpu")
    return ledger


@pytest.fixture
def space(stored: Study) -> SearchSpace:
    return SearchSpace.from_dict(stored.space)
