"""What a calibration says, once its runs are done."""

from typing import TYPE_CHECKING

from nas.errors import NasError
from nas.estimate.calibration.judge import conclude
from nas.study.store.calibrations import results_of
from nas.study.store.reader import Study

if TYPE_CHECKING:
    from nas.estimate.calibration.task import CalibrationTask
    from nas.estimate.ranking import Calibration


def concluded(url: str, task: "CalibrationTask", calibration: Study | None) -> "Calibration":
    """The judgement over a calibration whose runs have ended.

    Args:
        calibration: did the runs; None where all had been done before.

    Raises:
        NasError: some of them failed; says why the first one did.
    """
    results = results_of(url, task.digest)
    missing = sum(run.key not in results for run in task.runs)
    if missing:
        failed = (t.reason for t in calibration.trials() if t.state == "fail") if calibration else iter(())
        reason = next(failed, None) or "nobody has done them"
        name = calibration.name if calibration else "the calibration"
        raise NasError(
            f"{name}: {missing} of {len(task.runs)} runs have no result ({reason}); the same command tries them again"
        )
    return conclude(task, results)
