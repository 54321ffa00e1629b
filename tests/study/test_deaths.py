"""Workers that die one after the other: bounded for all who work on a study, and no candidate's fault."""

from pathlib import Path

import optuna
import pytest

from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.doctor import recover
from nas.study.launch.create import create_study
from nas.study.launch.engines import local
from nas.study.launch.engines.local import LocalWorkers
from nas.study.run.stop import StopFlag
from nas.study.run.worker import Worker
from nas.study.store.deaths import MAX_DEATHS, WorkersDie
from nas.study.store.leases import MAX_CRASHES, sweep
from nas.study.store.reader import Study
from nas.study.store.studies import begin_anew, count_death, deaths_so_far
from nas.study.store.trials import Ledger
from nas.study.store.workers import join, leave

from .conftest import SUMMARY
from .test_disk_full import Quick


def begins(study: Study, storage: optuna.storages.RDBStorage, name: str) -> None:
    """A worker that takes a trial."""
    join(storage.engine, study.study_id, name, "cpu")
    ledger = Ledger(storage.engine, study.study_id, name)
    trial_id = ledger.take_waiting()
    trial = optuna.load_study(study_name="s", storage=storage).ask()
    assert trial._trial_id == trial_id
    space = SearchSpace.from_dict(study.space)
    ledger.own(trial_id, landmark_in(space, trial.user_attrs["landmark"]), trial.user_attrs["landmark"])


def dies(study: Study, storage: optuna.storages.RDBStorage, name: str) -> None:
    """A worker that takes a trial and is gone; another one notices."""
    begins(study, storage, name)
    leave(storage.engine, name)
    assert sweep(storage.engine, study.study_id, None) == 1


def test_worker_after_worker_that_dies_stops_the_study(stored: Study, storage: optuna.storages.RDBStorage) -> None:
    for number in range(MAX_DEATHS):
        assert deaths_so_far(stored.url, "s") == number
        dies(stored, storage, f"w{number}")
    burnt = [trial for trial in stored.trials() if trial.state == "fail"]
    assert len(burnt) <= MAX_DEATHS // MAX_CRASHES
    with pytest.raises(WorkersDie, match=r"5 workers died one after the other, with no epoch in between.*nas resume"):
        Worker(stored, Quick(), stop=StopFlag()).run()
    assert WorkersDie.exit_code == 1
    begin_anew(stored)
    Worker(stored, Quick(), stop=StopFlag()).run(1)
    assert deaths_so_far(stored.url, "s") == 0


def test_an_epoch_in_between_shows_that_a_candidate_was_to_blame(
    stored: Study, storage: optuna.storages.RDBStorage
) -> None:
    for number in range(MAX_DEATHS - 1):
        dies(stored, storage, f"w{number}")
    Worker(stored, Quick(), stop=StopFlag()).run(1)
    for number in range(MAX_DEATHS - 1):
        dies(stored, storage, f"v{number}")
    Worker(stored, Quick(), stop=StopFlag()).run(1)


def test_what_ends_many_workers_at_once_is_one_death(stored: Study, storage: optuna.storages.RDBStorage) -> None:
    for name in "abc":
        begins(stored, storage, name)
    for name in "abc":
        leave(storage.engine, name)
    assert sweep(storage.engine, stored.study_id, None) == 3
    assert deaths_so_far(stored.url, "s") == 1
    count_death(stored.url, "s", 0)  # its launcher notices, too
    assert deaths_so_far(stored.url, "s") == 1


def test_recover_begins_anew(stored: Study) -> None:
    for number in range(MAX_DEATHS - 1):
        count_death(stored.url, "s", number)
    recover(stored)
    assert deaths_so_far(stored.url, "s") == 0


class Dead:
    """A process that was killed before it did anything."""

    exitcode = -9

    def is_alive(self) -> bool:
        return False


def test_workers_that_die_at_once_are_not_started_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY)
    started: list[object] = []
    monkeypatch.setattr(local.processes, "start", lambda *given: started.append(given) or Dead())
    with LocalWorkers(url, "s", ("cpu", "cpu")) as workers:
        for _ in range(MAX_DEATHS - 1):
            assert workers.mend() == ["2 workers were killed; started anew, nothing is lost"]
        with pytest.raises(WorkersDie):
            workers.mend()
    assert len(started) == 2 * MAX_DEATHS
