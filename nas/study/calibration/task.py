"""The calibration that a study file asks for."""

from nas.estimate.calibration.task import CalibrationTask, make_task
from nas.estimate.config import CalibrationConfig
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig


def task_of(study: StudyConfig, config: CalibrationConfig | None = None) -> CalibrationTask:
    """The calibration of a study file, with ``config`` instead of its own settings where given."""
    return make_task(
        SearchSpace.load(study.space).on(backbone=study.backbone),
        study.data,
        study.training,
        config=config or study.calibrate,
        seed=study.seed,
    )
