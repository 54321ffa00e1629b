"""Creating a study, joining a stored one."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest

from nas.errors import UserError
from nas.space.landmarks import LANDMARKS
from nas.study.config import StudyConfig
from nas.study.launch.create import check_same, create_study, set_target
from nas.study.store.reader import Study, open_study
from nas.study.store.studies import stored_study

from .conftest import SUMMARY


def test_landmarks_wait_first_and_optuna_opens_the_same_database(
    stored: Study, storage: optuna.storages.RDBStorage
) -> None:
    study = optuna.load_study(study_name="s", storage=storage)
    waiting = [trial.user_attrs["landmark"] for trial in study.get_trials()]
    assert waiting == list(LANDMARKS)
    assert {trial.state for trial in study.get_trials()} == {optuna.trial.TrialState.WAITING}


def test_a_second_launcher_joins(stored: Study, config: StudyConfig) -> None:
    again = create_study(config, "name: s", stored.url, lambda _: SUMMARY)
    assert again.study_id == stored.study_id
    assert len(again.trials()) == len(LANDMARKS)


def test_eight_launchers_at_once_make_one_study(config: StudyConfig, url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(create_study, config, "", url, lambda _: SUMMARY) for _ in range(8)]
        ids = {job.result().study_id for job in jobs}
    assert len(ids) == 1
    names = [t.landmark or "" for t in open_study(url, "s").trials()]
    assert len(names) == len(LANDMARKS)


def test_target_is_what_the_space_can_give(url: str) -> None:
    config = StudyConfig(name="big", space="patterns", trials=100_000)
    study = create_study(config, "", url, lambda _: SUMMARY)
    # 625 networks, and the landmarks that patterns (SE only) does not hold: CBAM everywhere, the dual default.
    assert study.target == 625 + 2


def test_target_can_grow(stored: Study) -> None:
    assert stored.target == 12
    assert set_target(stored, 20) == 20
    assert stored.target == 20
    assert set_target(stored, 100_000) == stored.target == 625 + 2  # no more networks than there are


def test_other_settings_are_refused_with_the_key(stored: Study, config: StudyConfig) -> None:
    check_same(config.model_copy(update={"trials": 99, "workers": 2}), stored)
    other = StudyConfig.parse({**config.to_dict(), "training": {"epochs": 7}}, "x")
    with pytest.raises(UserError, match=r"training.epochs: stored 5, given 7.*Only trials, workers"):
        check_same(other, stored)
    with pytest.raises(UserError, match=r"space: stored 'patterns'"):
        check_same(config.model_copy(update={"space": "full"}), stored)


def test_unknown_studies_are_named(stored: Study) -> None:
    assert stored_study(stored.url, "other") is None
    with pytest.raises(UserError, match=r"no study named 'other'; studies: s"):
        open_study(stored.url, "other")
    with pytest.raises(UserError, match=r"no trial 77; trials: 0 to 5"):
        stored.trial(77)


def test_reading_needs_neither_torch_nor_optuna(stored: Study) -> None:
    code = (
        "import sys, nas\n"
        f"print(len(nas.open_study({stored.url!r}, 's').trials()))\n"
        "print([m for m in ('torch', 'optuna', 'lightning', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["6", "[]"]
