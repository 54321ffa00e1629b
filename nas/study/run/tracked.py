"""How the trials of a study are tracked, and what a tracker shows beside their curves."""

from optuna.trial import Trial

from nas.architecture import Architecture
from nas.study.config import StudyConfig
from nas.study.run.checkpoints import LANDMARK_ATTR
from nas.study.store.reader import Study
from nas.study.store.urls import sqlite_url
from nas.training.tracking import Tracking, check_tracker


def tracking_of(study: Study, config: StudyConfig) -> Tracking:
    """Where trials are tracked; `UserError` where this machine lacks the package."""
    check_tracker(config.tracking)
    folder = study.folder.parent / "tracking"
    database = sqlite_url((folder / "mlflow.db").resolve())
    return Tracking(tracker=config.tracking, study=study.name, folder=folder, mlflow_url=database)


def tracked_parameters(trial: Trial, architecture: Architecture) -> dict[str, object]:
    """What a tracker shows beside a trial's curves."""
    stages = enumerate(architecture.canonical().stages, start=1)
    found = {f"stage{number}.{key}": value for number, stage in stages for key, value in stage.to_dict().items()}
    return {"digest": architecture.digest, "landmark": trial.user_attrs.get(LANDMARK_ATTR, ""), **found}
