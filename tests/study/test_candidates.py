"""Cheap scores beside the study that trains the best of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sqlalchemy as sa

from nas.architecture import Architecture
from nas.errors import UserError
from nas.estimate.config import EstimateConfig
from nas.estimate.predictor import Predictor
from nas.estimate.ranking import Calibration, Correlation, Fidelity, Spread
from nas.estimate.shared_scoring import SharedScore
from nas.measurement import EpochRecord, Measurement, Outcome
from nas.report.summary import summarise
from nas.report.summary_text import summary_text
from nas.space.landmarks import LANDMARKS
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.launch.joining import join_study
from nas.study.pareto import dominance_ranks
from nas.study.run.scoring import PredictingWorker, SharedWorker
from nas.study.run.stop import StopFlag
from nas.study.run.worker import Worker
from nas.study.store import tables
from nas.study.store.engine import open_engine
from nas.study.store.optuna_storage import close_storage, open_storage
from nas.study.store.reader import Study, open_study, study_names
from nas.study.store.studies import stored_study, study_to_work_on
from nas.study.store.trials import Ledger
from nas.study.store.workers import join

from .conftest import SUMMARY
from .test_rungs import Planted

CANDIDATES = 15


@pytest.fixture
def config() -> StudyConfig:
    estimate = EstimateConfig(by="shared", candidates=CANDIDATES)
    return StudyConfig(name="s", space="patterns", trials=len(LANDMARKS) + 4, estimate=estimate)


def quality(architecture: Architecture) -> float:
    return int(architecture.digest[:6], 16) / 16**6


@dataclass
class Ensemble:
    digest: str = "networks"

    def score(self, architecture: Architecture) -> SharedScore:
        return SharedScore(network=self.digest, accuracy=quality(architecture), loss=1.0)


class Trained:
    """The better of two candidates by their cheap score is the worse one here."""

    device = "cpu"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(
        self,
        architecture: Architecture,
        *,
        on_epoch: Callable[[EpochRecord], str | None],
        should_stop: Callable[[], bool],
        checkpoint: Path,
    ) -> Measurement:
        self.asked.append(architecture.digest)
        score = (1 - quality(architecture)) / 2
        return Measurement(outcome=Outcome.COMPLETE, score=score, seed=0, budget=5, num_params=1, macs=1, wall_s=0.1)


def candidates_of(study: Study) -> Study:
    found = study.candidates()
    assert found is not None
    return found


def scored(study: Study, ensemble: Ensemble | None = None) -> int:
    candidates = candidates_of(study)
    return SharedWorker(candidates, Trained(), ensemble or Ensemble(), stop=StopFlag(), worker_id="w").run()


def test_the_best_candidates_are_trained_after_the_landmarks(stored: Study) -> None:
    assert scored(stored) == CANDIDATES
    ranking = candidates_of(stored).ranking()
    assert len(ranking) == CANDIDATES == len({a.digest for a in ranking})
    assert ranking == sorted(ranking, key=quality, reverse=True)
    trained = Trained()
    Worker(stored, trained, stop=StopFlag(), worker_id="w").run()
    known = trained.asked[: len(LANDMARKS)]
    assert trained.asked[len(LANDMARKS) :] == [a.digest for a in ranking if a.digest not in known][:4]


@pytest.fixture
def joined(stored: Study, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Joins the study as `nas worker` does; gives the digests of the networks that were trained."""

    def join(**options: Any) -> list[str]:
        trained = Trained()
        trained.config = candidates_of(stored).settings
        monkeypatch.setattr("nas.study.launch.joining.Training", lambda *_, **__: trained)
        join_study(stored.name, stored.url, **options)
        return trained.asked

    monkeypatch.setattr("nas.study.launch.joining.signal.signal", lambda *_: None)
    monkeypatch.setattr("nas.study.run.scoring._ensemble", lambda *_: Ensemble())
    return join


def test_a_worker_counts_the_scores_of_candidates_too(stored: Study, joined: Callable[..., list[str]]) -> None:
    assert joined(max_trials=3) == []
    assert candidates_of(stored).num_ended() == 3
    assert len(joined(max_trials=CANDIDATES - 3 + 2)) == 2
    assert candidates_of(stored).num_ended() == CANDIDATES


def test_a_worker_that_does_not_stay_leaves_while_others_score(stored: Study, joined: Callable[..., list[str]]) -> None:
    candidates = candidates_of(stored)
    storage = open_storage(stored.url)
    other = Ledger(storage.engine, candidates.study_id, "other")
    join(storage.engine, candidates.study_id, "other", "cpu")
    storage.create_new_trial(candidates.study_id, optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING))
    other.adopt_waiting()
    other.take_waiting()
    optuna.load_study(study_name=candidates.name, storage=storage).ask()
    assert joined(stay=False, stay_to_score=False) == []
    assert candidates.num_ended() == CANDIDATES - 1
    close_storage(storage)


def test_a_study_speaks_of_trained_scores_only(stored: Study) -> None:
    scored(stored)
    assert stored.best() is None
    assert all(t.score is None for t in stored.trials())
    Worker(stored, Trained(), stop=StopFlag(), worker_id="w").run()
    best = stored.best()
    assert best is not None
    assert best.architecture is not None
    assert best.score == (1 - quality(best.architecture)) / 2
    text = summary_text(summarise(stored))
    assert f"{CANDIDATES} of {CANDIDATES} candidates scored by the mean of 3 shared networks (5 epochs)" in text
    assert study_names(stored.url) == ["s"]


def test_scores_of_other_networks_are_refused(stored: Study) -> None:
    storage = open_storage(stored.url)
    candidates = candidates_of(stored)
    ledger = Ledger(storage.engine, candidates.study_id, "w")
    for trial_id, score in ((1001, SharedScore(network="a", accuracy=0.5, loss=1)),):
        ledger.lease(trial_id)
        ledger.record_score(trial_id, score, 0.1)
    with pytest.raises(UserError, match=r"ranked by the shared networks a, this worker has networks: share one"):
        scored(stored)
    close_storage(storage)
    assert [t.state for t in candidates.trials()] == ["waiting"]


def test_a_brief_study_trains_its_candidates_briefly(url: str) -> None:
    config = StudyConfig(name="s", space="patterns", trials=8, estimate=EstimateConfig(by="brief", candidates=9))
    candidates = candidates_of(create_study(config, "", url, lambda _: SUMMARY))
    training = StudyConfig.parse(candidates.config, "").training
    assert (training.epochs, training.warmup_epochs) == (2, pytest.approx(0.4))
    Worker(candidates, Trained(), stop=StopFlag(), worker_id="w").run()
    assert [quality(a) for a in candidates.ranking()] == sorted(quality(a) for a in candidates.ranking())


def test_no_more_candidates_than_the_space_holds(url: str) -> None:
    estimate = EstimateConfig(by="shared", candidates=10_000)
    study = create_study(StudyConfig(name="s", space="patterns", estimate=estimate), "", url, lambda _: SUMMARY)
    assert candidates_of(study).target == 625


CHEAP = {"by": "shared", "epochs": 7, "networks": 2, "measure": "loss"}


def calibration(settings: dict[str, object] | None) -> Calibration:
    rho = Correlation(value=0.7, low=0.5, high=0.8)
    fidelity = Fidelity(name="x", correlation=rho, rest=0.6, regret=0.1, cost_s=1.0, cost_share=0.1, settings=settings)
    return Calibration(
        num_architectures=8,
        num_seeds=2,
        spread=Spread(architectures=0.02, seeds=0.01, reliability=0.8, f_ratio=9.0, p_value=0.001),
        ceiling=rho,
        ceiling_regret=0.1,
        full_s=10.0,
        fidelities=(fidelity,),
        choice="x" if settings else None,
        advice="use x",
    )


def test_auto_does_what_the_calibration_found(config: StudyConfig, url: str) -> None:
    config = config.model_copy(update={"estimate": EstimateConfig(by="auto", candidates=CANDIDATES)})
    study = create_study(config, "", url, lambda _: SUMMARY, calibration(CHEAP))
    estimate = candidates_of(study).config["estimate"]
    assert {key: estimate[key] for key in CHEAP} == CHEAP
    assert candidates_of(study).target == CANDIDATES
    assert study.provenance["calibration"]["advice"] == "use x"


def test_auto_takes_the_predictor_and_no_length_of_a_brief_training(config: StudyConfig, url: str) -> None:
    config = config.model_copy(update={"estimate": EstimateConfig(by="auto", epochs=2, candidates=CANDIDATES)})
    model = Predictor(base=0.8, effects={}, num_trainings=72)
    found = replace(calibration({"by": "predictor", "epochs": None}), predictor=model)
    candidates = candidates_of(create_study(config, "", url, lambda _: SUMMARY, found))
    stored = StudyConfig.parse(candidates.config, "")
    assert (stored.estimate.by, stored.training.epochs) == ("predictor", config.training.epochs)
    assert Predictor(**candidates.predictor) == model


def test_a_predictor_has_no_epochs_of_its_own() -> None:
    with pytest.raises(UserError, match=r"estimate: epochs: a predictor trains nothing of its own; leave it out"):
        StudyConfig.parse({"name": "s", "estimate": {"by": "predictor", "epochs": 3}}, "f")


def test_auto_trains_everything_where_nothing_cheap_was_chosen(config: StudyConfig, url: str) -> None:
    config = config.model_copy(update={"estimate": EstimateConfig(by="auto")})
    study = create_study(config, "", url, lambda _: SUMMARY, calibration(None))
    assert study.candidates() is None


def by_predictor(config: StudyConfig) -> StudyConfig:
    return config.model_copy(update={"estimate": EstimateConfig(by="predictor", candidates=CANDIDATES)})


def test_candidates_are_ranked_by_the_predictor_that_is_stored_with_the_study(config: StudyConfig, url: str) -> None:
    effects = {f"stage {stage} pattern {pattern}": 0.01 * stage for stage in (1, 2, 3, 4) for pattern in ("p1", "p3")}
    model = Predictor(base=0.8, effects=effects, num_trainings=72)
    found = replace(calibration(None), predictor=model)
    study = create_study(by_predictor(config), "", url, lambda _: SUMMARY, found)
    candidates = candidates_of(study)
    measure = Trained()
    assert PredictingWorker(candidates, measure, stop=StopFlag(), worker_id="w").run() == CANDIDATES
    assert measure.asked == [], "candidates are not trained"
    ranking = [model.predict(architecture) for architecture in candidates.ranking()]
    assert ranking == sorted(ranking, reverse=True)
    assert ranking[0] > ranking[-1]
    Worker(study, measure, stop=StopFlag(), worker_id="w").run()
    assert candidates.ranking()[0].digest in measure.asked
    assert "scored by a predictor of 72 full trainings (5 epochs)" in summary_text(summarise(study))


def test_a_predictor_without_a_calibration_is_refused(config: StudyConfig, url: str) -> None:
    with pytest.raises(UserError, match=r"^estimate: predictor needs the study's calibration; nas search begins with"):
        create_study(by_predictor(config), "", url, lambda _: SUMMARY)
    assert stored_study(url, "s") is None


NEW = {
    2: ((tables.scores, tables.calibrations), {"nas_studies": ["candidates_of"]}),
    3: ((tables.tests,), {"nas_studies": ["confirms"]}),
    4: ((tables.costs, tables.promotions), {"nas_epochs": ["val_top5", "val_macro_f1", "val_balanced_accuracy"]}),
    5: ((), {"nas_studies": ["clock_ms"]}),
    6: (
        (tables.members,),
        {"nas_workers": ["machine", "process_start", "deaths_before"], "nas_studies": ["deaths", "calibrates"]},
    ),
}


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_an_older_database_is_upgraded(stored: Study, version: int) -> None:
    """What its version did not have is taken away first."""
    storage = open_storage(stored.url)
    with storage.engine.begin() as connection:
        connection.execute(sa.delete(tables.studies).where(tables.studies.c.candidates_of.is_not(None)))
        for since, (new_tables, new_columns) in NEW.items():
            if since > version:
                for table in new_tables:
                    table.drop(connection)
                for table_name, names in new_columns.items():
                    for name in names:
                        connection.execute(sa.text(f"ALTER TABLE {table_name} DROP COLUMN {name}"))
        connection.execute(sa.update(tables.schema).values(version=version))
    close_storage(storage)
    with pytest.raises(UserError, match=rf"database schema {version}.*nas recover brings it up to date"):
        open_study(stored.url, "s")
    study = study_to_work_on(stored.url, "s")
    assert study.candidates() is None
    assert study.confirmations() == []
    assert len(study.trials()) == len(LANDMARKS)
    with open_engine(stored.url).connect() as connection:
        assert sorted(connection.scalars(sa.select(tables.schema.c.version))) == [version, tables.SCHEMA_VERSION]


@pytest.mark.parametrize(
    ("by", "what"),
    [("shared", "shared networks"), *((by, "the networks of a calibration") for by in ("auto", "predictor"))],
)
def test_what_starts_from_scratch_takes_no_weights(by: str, what: str) -> None:
    with pytest.raises(UserError, match=rf"estimate: {what} start from scratch; leave training\.init_from out"):
        StudyConfig.parse({"name": "s", "estimate": by, "training": {"init_from": "w.pt"}}, "f")


@pytest.mark.parametrize("by", ["shared", "predictor"])
def test_several_objectives_rank_the_candidates_too(url: str, by: str) -> None:
    """By non-dominated sorting of score and parameters; what breaks a constraint is not scored."""
    model = Predictor(base=0.8, effects={"stage 2 pattern p1": 0.02, "stage 3 pattern p4": -0.01}, num_trainings=72)
    content = {
        "name": "two",
        "space": "patterns",
        "objectives": {"val_accuracy": "maximize", "params": "minimize"},
        "constraints": ["params <= 1.4 * plain"],
        "estimate": {"by": by, "candidates": 12},
    }
    found = replace(calibration(None), predictor=model)
    study = create_study(StudyConfig.parse(content, "test"), "", url, lambda _: SUMMARY, found)
    candidates, measure = candidates_of(study), Planted()
    if by == "shared":
        SharedWorker(candidates, measure, Ensemble(), stop=StopFlag(), worker_id="w").run()
    else:
        PredictingWorker(candidates, measure, stop=StopFlag(), worker_id="w").run()
    ranking, score = candidates.ranking(), quality if by == "shared" else model.predict
    losses = np.array([(-score(a), measure.cost(a).fused.num_params) for a in ranking])
    assert len(ranking) == 12
    assert sorted(dominance_ranks(losses)) == list(dominance_ranks(losses))
    assert losses[:, 1].max() <= 1400
    assert candidates.target > 12, "some were refused"
