"""One study, two owners: people use the database with Optuna as well."""

import optuna
import pytest

from nas.errors import UserError
from nas.report.summary import summarise
from nas.study.config import StudyConfig
from nas.study.doctor import sweep_study
from nas.study.launch.create import create_study, set_target
from nas.study.run.stop import StopFlag
from nas.study.run.worker import Worker
from nas.study.store.optuna_storage import TrialStorage, close_storage, make_storage
from nas.study.store.reader import Study, open_study

from ..conftest import SUMMARY
from ..test_disk_full import Quick


def work(study: Study) -> int:
    worker = Worker(study, Quick(), stop=StopFlag())
    try:
        return worker.run()
    finally:
        close_storage(worker.storage)


def test_a_trial_that_the_users_program_runs_is_left_alone(stored: Study, storage: TrialStorage) -> None:
    theirs = optuna.load_study(study_name="s", storage=storage)
    for waiting in range(len(stored.trials())):
        assert theirs.ask().number == waiting  # all that waited
    mine = theirs.ask()
    mine.suggest_float("x", 0, 1)
    assert sweep_study(stored) == 0
    theirs.tell(mine, 0.25)
    assert mine.number not in {t.number for t in stored.trials()}
    assert sum(summarise(stored).states.values()) == len(stored.trials())


def test_what_the_user_enqueues_is_trained(stored: Study, storage: TrialStorage) -> None:
    network = {f"stage{number}.pattern": "none" for number in range(1, 5)} | {"stage4.pattern": "p2"}
    theirs = optuna.load_study(study_name="s", storage=storage)
    space = Worker(stored, Quick(), stop=StopFlag()).space
    asked = space.encode(space.decode(lambda name, options: network.get(name, options[0])))
    theirs.enqueue_trial(asked)
    assert work(stored) == 12
    enqueued = next(t for t in theirs.trials if t.system_attrs.get("fixed_params") == asked)
    assert (enqueued.params, enqueued.state.name) == (asked, "COMPLETE")


def test_what_is_enqueued_and_no_network_is_refused_in_one_line(stored: Study, storage: TrialStorage) -> None:
    optuna.load_study(study_name="s", storage=storage).enqueue_trial({"x": 1})
    work(stored)
    assert [t.reason for t in stored.trials() if t.state == "fail"] == [
        "enqueued: stage1.pattern: expected one of none, p1, p2, p3, p4, got 'nothing'"
    ]


def test_a_network_that_is_enqueued_in_a_study_that_was_done(stored: Study, storage: TrialStorage) -> None:
    work(stored)
    assert summarise(stored).done
    optuna.load_study(study_name="s", storage=storage).enqueue_trial({"x": 1})
    sweep_study(stored)
    assert not summarise(stored).done
    assert work(stored) == 1


def test_a_study_that_was_deleted_with_optuna_is_named(stored: Study, storage: TrialStorage) -> None:
    optuna.delete_study(study_name="s", storage=storage)
    with pytest.raises(UserError, match=r"study 's' was deleted with Optuna; remove what is left of it: nas delete s"):
        open_study(stored.url, "s")
    with pytest.raises(UserError, match=r"study 's' was deleted with Optuna; remove what is left of it: nas delete s"):
        create_study(StudyConfig(name="new", space="patterns"), "", stored.url, lambda _: SUMMARY)


def test_a_study_of_this_name_that_is_not_ours_is_refused(stored: Study, storage: TrialStorage) -> None:
    theirs = optuna.create_study(study_name="theirs", storage=storage)
    theirs.enqueue_trial({"x": 1})
    with pytest.raises(UserError, match="'theirs' that fusion-nas has not made"):
        create_study(StudyConfig(name="theirs", space="patterns"), "", stored.url, lambda _: SUMMARY)
    assert len(theirs.trials) == 1


def test_no_table_is_added_to_a_foreign_database_unasked(url: str) -> None:
    theirs = optuna.storages.RDBStorage(url)
    optuna.create_study(study_name="theirs", storage=theirs)
    with pytest.raises(UserError, match=r"tables of another program \(.*with --force"):
        create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY)
    close_storage(theirs)
    study = create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY, force=True)
    assert study.name == "s"
    close_storage(make_storage(url))  # now it is ours as well


def test_a_study_has_no_fewer_trials_than_it_has(stored: Study) -> None:
    """A lowered number made `status` and the exported network disagree."""
    work(stored)
    with pytest.raises(UserError, match=r"--trials: .*which has 12 trials already, got 7; 19 would add 7"):
        set_target(stored, 7)
    summary = summarise(stored)
    assert (summary.target, summary.ended, summary.done) == (12, 12, True)
    best = stored.best()
    assert best is not None
    assert summary.best == best
