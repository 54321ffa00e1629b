"""A search or a confirmation that ends without a result is exit code 1, and says what to do."""

from collections.abc import Callable
from pathlib import Path

import optuna

from nas.study.config import StudyConfig
from nas.study.confirm.prepare import prepare_confirmation
from nas.study.launch.create import create_study
from nas.study.store.optuna_storage import close_storage, open_storage
from nas.study.store.reader import Study
from tests.report.synthetic import synthetic
from tests.study.conftest import SUMMARY

Nas = Callable[..., tuple[int, str, str]]


def fail_all(*studies: Study) -> None:
    """End every trial that waits without a result."""
    storage = open_storage(studies[0].url)
    for study in studies:
        made = optuna.load_study(study_name=study.name, storage=storage)
        while any(trial.state.name == "WAITING" for trial in made.get_trials(deepcopy=False)):
            made.tell(made.ask(), state=optuna.trial.TrialState.FAIL)
    close_storage(storage)


def test_a_search_of_which_nothing_was_trained(nas: Nas, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    config = StudyConfig(name="s", space="patterns", trials=2, landmarks=("plain", "se-everywhere"))
    study = create_study(config, "", url, lambda _: SUMMARY)
    fail_all(study)
    code, _, err = nas("resume", "s", "--storage", url)
    assert code == 1
    assert "study 's' ended without a result: none of its 2 trials is complete" in err
    assert f"nas resume s --storage {url} --trials 12" in err
    assert not (study.folder / "best.yaml").exists()


def test_a_confirmation_without_a_verdict(nas: Nas, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    study = synthetic(url, 12, name="s")
    prepare_confirmation(study, top=1, num_seeds=2)
    fail_all(*study.confirmations())
    code, out, err = nas("confirm", "s", "--top", "1", "--seeds", "2", "--storage", url)
    assert code == 1
    assert "No verdict:" in out
    assert "no verdict over study 's'; what failed with the first of the seeds: nas trials s/confirm/" in err
