"""Studies are listed and removed with all that is theirs, and nothing that is another's."""

from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
import yaml

from nas.errors import UserError
from nas.report.studies import StudyRow, study_rows
from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.removal import plan_removal, remove
from nas.study.run.checkpoints import ROOT_VARIABLE, CheckpointFolder
from nas.study.store import tables
from nas.study.store.backup import check_database
from nas.study.store.engine import open_engine
from nas.study.store.optuna_storage import close_storage, open_storage
from nas.study.store.reader import Study, open_study
from nas.study.store.studies import stored_studies
from nas.study.store.trials import Ledger
from nas.study.store.workers import join, leave

from .conftest import SUMMARY

Everything = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "checkpoints"))


def made(url: str, name: str, confirms: Study | None = None, landmark: str = "plain") -> Study:
    """A study that has done some work: a row in most tables, a checkpoint, results."""
    study = create_study(StudyConfig(name=name, space="patterns"), "", url, lambda _: SUMMARY)
    storage = open_storage(url)
    ledger = Ledger(storage.engine, study.study_id, f"w-{name}"[:64])
    join(storage.engine, study.study_id, ledger.worker_id, "cpu")
    ledger.take_waiting()
    trial = optuna.load_study(study_name=name, storage=storage).ask()
    ledger.own(trial._trial_id, landmark_in(SearchSpace.from_dict(study.space), landmark), landmark)
    with storage.engine.begin() as connection:
        event = {
            "trial_id": trial._trial_id,
            "seed": 0,
            "signal": "s",
            "epoch": 0,
            "step": 0,
            "message": "m",
            "trace": [],
        }
        connection.execute(sa.insert(tables.events).values(event))
        if confirms is not None:
            mine = tables.studies.c.study_id == study.study_id
            connection.execute(sa.update(tables.studies).where(mine).values(confirms=confirms.study_id))
        connection.execute(sa.update(tables.workers).values(ended_at=1.0))
    close_storage(storage)
    path = CheckpointFolder(study).path(0)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 1000)
    study.folder.mkdir(parents=True)
    (study.folder / "best.yaml").write_text(yaml.safe_dump({"provenance": {"study": name}}))
    (study.folder / "report.html").write_text("page")
    return study


def everything(url: str) -> Everything:
    """All rows of all tables."""
    with open_engine(url).connect() as connection:
        found = sa.MetaData()
        found.reflect(connection)
        return {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr)
            for table in found.sorted_tables
        }


def deleted_with_optuna(url: str, name: str) -> None:
    storage = optuna.storages.RDBStorage(url)
    optuna.delete_study(study_name=name, storage=storage)
    close_storage(storage)


def delete(url: str, name: str) -> None:
    remove(plan_removal(url, name))


def test_what_is_removed_leaves_the_database_as_if_it_had_never_been(url: str) -> None:
    other = made(url, "other")
    before = everything(url)
    study = made(url, "s")
    part = made(url, "s/confirm/100000", study)
    delete(url, "s")
    assert everything(url) == before
    assert check_database(open_engine(url)) == "ok"
    for gone in (study, part):
        assert not CheckpointFolder(gone).folder.exists()
    assert not study.folder.exists()
    assert CheckpointFolder(other).path(0).is_file()
    assert (other.folder / "best.yaml").is_file()
    made(url, "s")  # the name is free again


def test_what_optuna_has_left_is_named_and_removed(url: str) -> None:
    made(url, "other")
    before = everything(url)
    made(url, "s")
    deleted_with_optuna(url, "s")
    with pytest.raises(UserError, match=r"study 's' was deleted with Optuna; remove what is left of it: nas delete s"):
        open_study(url, "s")
    assert [row.state for row in rows(url)] == ["stopped", "deleted"]
    delete(url, "s")
    assert everything(url) == before


def test_results_that_are_not_the_studys_stay(url: str) -> None:
    study = made(url, "s")
    (study.folder / "thesis.tex").write_text("years of work")
    delete(url, "s")
    assert [path.name for path in study.folder.iterdir()] == ["thesis.tex"]
    study = made(url, "t")
    (study.folder / "best.yaml").write_text("name: another tool's")
    delete(url, "t")
    assert sorted(path.name for path in study.folder.iterdir()) == ["best.yaml", "report.html"]


def test_it_is_refused_while_a_worker_lives(url: str) -> None:
    study = made(url, "s")
    before = everything(url)
    storage = open_storage(url)
    ledger = Ledger(storage.engine, study.study_id, "alive")
    join(storage.engine, study.study_id, ledger.worker_id, "cpu")
    with pytest.raises(UserError, match=r"study 's': worker alive may still write to it; stop it first"):
        plan_removal(url, "s")
    assert len(rows(url)) == 1
    assert (rows(url)[0].state, rows(url)[0].workers_alive) == ("running", 1)
    leave(storage.engine, ledger.worker_id)
    close_storage(storage)
    assert everything(url).keys() == before.keys()
    delete(url, "s")


def test_a_companion_goes_with_its_study(url: str) -> None:
    study = made(url, "s")
    made(url, "s/confirm/100000", study)
    with pytest.raises(UserError, match=r"'s/confirm/100000' works for the study 's' and goes with it: nas delete s"):
        plan_removal(url, "s/confirm/100000")
    assert [row.companions for row in rows(url)] == [("s/confirm/100000",)]
    deleted_with_optuna(url, "s/confirm/100000")
    delete(url, "s/confirm/100000")
    assert [row.companions for row in rows(url)] == [()]


def test_architectures_go_with_the_last_trial_that_owns_them(url: str) -> None:
    made(url, "other")
    before = everything(url)
    made(url, "s", landmark="se-post")
    made(url, "t", landmark="se-post")
    assert len(everything(url)["nas_architectures"]) == 2
    delete(url, "t")
    assert len(everything(url)["nas_architectures"]) == 2
    delete(url, "s")
    assert everything(url) == before


def test_a_name_that_is_not_there(url: str) -> None:
    made(url, "s")
    with pytest.raises(UserError, match=r"no study named 'x'; studies: s"):
        plan_removal(url, "x")


def rows(url: str) -> tuple[StudyRow, ...]:
    stored = stored_studies(url)
    return study_rows(stored, [0] * len(stored))
