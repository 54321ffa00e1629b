"""What the calibration of a study is to do: as its file asks for it, and as it is stored. Needs no torch."""

import hashlib
import json
from typing import TYPE_CHECKING

from nas.architecture import Architecture
from nas.estimate.calibration.task import CalibrationTask, make_task
from nas.estimate.config import CalibrationConfig
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.store.reader import Study

if TYPE_CHECKING:
    from nas.training.summary import DataSummary

ARCHITECTURES_KEY = "calibrated_architectures"
"""Where the provenance of a calibration holds the architectures that it trains."""


def task_of(study: StudyConfig, summary: "DataSummary", config: CalibrationConfig | None = None) -> CalibrationTask:
    """The calibration of a study file, with ``config`` instead of its own settings where given.

    Args:
        summary: of the study's data.

    Raises:
        UserError: see `make_task`.
    """
    return make_task(
        SearchSpace.load(study.space).on(backbone=study.backbone),
        study.data,
        summary,
        study.training,
        config=config or study.calibrate,
        seed=study.seed,
    )


def stored_task(calibration: Study) -> CalibrationTask:
    """What a stored calibration is to do."""
    settings = calibration.settings
    return CalibrationTask(
        space=SearchSpace.from_dict(calibration.space),
        data=settings.data,
        fingerprint=calibration.data["fingerprint"],
        training=settings.training,
        config=settings.calibrate or CalibrationConfig(),
        architectures=tuple(Architecture.from_dict(one) for one in calibration.provenance[ARCHITECTURES_KEY]),
        seed=settings.seed,
    )


def digest_of(task: CalibrationTask) -> str:
    """First 8 hex digits of a SHA-256 over a task and its list of runs: calibrations that differ do not meet."""
    content = [task.digest, sorted(run.key for run in task.runs)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]
