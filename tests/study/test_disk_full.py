"""A full disk is a clear stop that costs nothing: after space is freed the same command goes on."""

import resource
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas.errors import StorageError
from nas.measurement import EpochRecord, Measurement
from nas.study.config import StudyConfig
from nas.study.doctor import sweep_study
from nas.study.launch.create import create_study
from nas.study.run.stop import StopFlag
from nas.study.run.worker import Worker
from nas.study.store.reader import Study, open_study
from tests import warm
from tests.cli.conftest import write_study

from .conftest import SUMMARY
from .test_ledger import EPOCH, result

MEBIBYTE = 2**20


class Quick:
    """Measures nothing: three epochs."""

    device = "none"

    def __call__(self, architecture: object, *, on_epoch: object, **_: object) -> Measurement:
        epochs = [EpochRecord(**{**vars(EPOCH), "epoch": number}) for number in range(3)]
        for epoch in epochs:
            on_epoch(epoch)  # type: ignore[operator]
        return result(budget=5, epochs=tuple(epochs))


def test_a_database_that_cannot_grow(tmp_path: Path) -> None:
    config = StudyConfig.parse({"schema": 1, "name": "s", "space": "patterns", "trials": 40}, "test")
    study = create_study(config, "", f"sqlite:///{tmp_path / 'nas.db'}", lambda _: SUMMARY)
    worker = Worker(study, Quick(), stop=StopFlag())
    worker.storage.engine.dispose()

    @sa.event.listens_for(worker.storage.engine, "connect")
    def _no_more_pages(connection: object, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")  # type: ignore[attr-defined]

    with pytest.raises(StorageError, match="the disk is full; free some space and type the same command again"):
        worker.run()
    before = open_study(study.url, "s").trials()
    assert sum(t.state == "complete" for t in before) < 40

    sweep_study(study, {worker.ledger.worker_id})  # as the launcher does when its workers have ended
    Worker(study, Quick(), stop=StopFlag()).run()
    after = open_study(study.url, "s").trials()
    assert [(t.state, t.reason, t.crashes) for t in after] == [("complete", None, 0)] * 40
    assert integrity(study) == "ok"


def integrity(study: Study) -> object:
    engine = sa.create_engine(study.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return connection.exec_driver_sql("PRAGMA integrity_check").scalar()


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEBIBYTE, MEBIBYTE))  # less than a checkpoint, more than the study


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    file = write_study(tmp_path, trials=3, training={"epochs": 2, "batch_size": 64})
    done = warm.run("search", file, "--storage", url, before=small_files)
    assert done.returncode == 2, done.stderr
    assert "trial-0.ckpt: cannot be written: File too large" in done.stderr.splitlines()[-1]
    (stopped, *_) = open_study(url, "tiny").trials()
    assert (stopped.state, stopped.crashes, len(stopped.epochs)) == ("waiting", 0, 2)
    assert list((tmp_path / "checkpoints").rglob(".*")) == []  # nothing half-written is left

    done = warm.run("search", file, "--storage", url)
    assert done.returncode == 0, done.stderr
    assert [(t.state, t.crashes, len(t.epochs)) for t in open_study(url, "tiny").trials()] == [("complete", 0, 2)] * 3
