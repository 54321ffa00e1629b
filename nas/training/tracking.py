"""Each trial as a run of TensorBoard, MLflow or Weights & Biases, through Lightning's own loggers.

Nothing here is imported, written or sent unless a study file asks for it.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock

from nas.errors import UserError
from nas.file_names import file_name
from nas.measurement import EpochRecord, Measurement, Outcome
from nas.training.config import Tracker

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

_log = logging.getLogger(__name__)


def check_tracker(tracker: Tracker | None) -> None:
    """Raise a `UserError` with the line that installs the tracker's package where it is missing."""
    if tracker is not None and find_spec(tracker) is None:
        raise UserError(
            f"tracking: {tracker} needs the package {tracker}; install it with: pip install 'fusion-nas[{tracker}]'"
        )


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where the runs of one study go."""

    tracker: Tracker | None
    study: str
    folder: Path
    """For trackers that write files: the runs of a study lie in it under the study's name."""
    mlflow_url: str
    """The database of MLflow where the environment names no server."""

    def run(self, trial: int, parameters: Mapping[str, object]) -> "TrackedRun":
        """The run of a trial, to be entered before the first epoch; ``parameters`` describe its network."""
        return TrackedRun(self.tracker and _MAKERS[self.tracker], self, trial, dict(parameters))


class TrackedRun:
    """One trial. A tracker that fails is given up for this trial: the training goes on without it."""

    def __init__(
        self, make: "Callable[[Tracking, int], Logger] | None", to: Tracking, trial: int, parameters: dict[str, object]
    ) -> None:
        self._make, self._to, self._trial, self._parameters = make, to, trial, parameters
        self._logger: Logger | None = None
        self._status = "failed"

    def __enter__(self) -> Self:
        if self._make is not None:
            self._attempt(self._begin, self._make)
        return self

    def _begin(self, make: "Callable[[Tracking, int], Logger]") -> None:
        from lightning.fabric.utilities.rank_zero import rank_zero_only

        # Under SLURM too: a worker is a process of its own, whatever its number.
        rank_zero_only.rank = 0  # type: ignore[attr-defined]  # as lightning's own strategies set it
        self._to.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._to.folder / ".lock"):  # MLflow's database must not be created by two workers at once
            self._logger = make(self._to, self._trial)
            self._logger.log_hyperparams(self._parameters)
            self._logger.save()

    def epoch(self, record: EpochRecord) -> None:
        """Log an epoch; steps are epochs, from 1."""
        values = {name: value for name, value in asdict(record).items() if name != "epoch" and value is not None}
        self._attempt(self._metrics, values, record.epoch + 1)

    def finish(self, result: Measurement) -> None:
        """Log what came out."""
        self._status = "failed" if result.outcome is Outcome.UNSTABLE else "success"
        values = {"num_params": result.num_params, "macs": result.macs, "wall_s": result.wall_s}
        if result.score is not None:
            values["score"] = result.score
            if self._to.tracker == "tensorboard":
                values["hp_metric"] = result.score  # what its table of hyperparameters shows
        self._attempt(self._metrics, values, len(result.epochs))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._attempt(self._end)

    def _metrics(self, values: Mapping[str, float], step: int) -> None:
        if self._logger is not None:
            self._logger.log_metrics(dict(values), step=step)

    def _end(self) -> None:
        if self._logger is not None:
            self._logger.finalize(self._status)
            if self._to.tracker == "wandb":
                import wandb

                wandb.finish()  # or the next trial of this process would go on with this run

    def _attempt(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except Exception as error:  # a server that is away, a full disk: whatever a tracker raises, the search goes on
            self._logger = None
            first = (str(error).splitlines() or [type(error).__name__])[0]
            _log.warning("%s/trial-%d: %s gave up: %s", self._to.study, self._trial, self._to.tracker, first)


def _tensorboard(to: Tracking, trial: int) -> "Logger":
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(to.folder, name=file_name(to.study), version=f"trial-{trial}")


def _mlflow(to: Tracking, trial: int) -> "Logger":
    from lightning.pytorch.loggers import MLFlowLogger

    uri = os.environ.get("MLFLOW_TRACKING_URI") or to.mlflow_url
    return MLFlowLogger(to.study, run_name=f"{to.study}/trial-{trial}", tracking_uri=uri)


def _wandb(to: Tracking, trial: int) -> "Logger":
    from lightning.pytorch.loggers import WandbLogger

    project = os.environ.get("WANDB_PROJECT", "fusion-nas")
    return WandbLogger(f"{to.study}/trial-{trial}", to.folder, project=project, group=to.study)


_MAKERS: "dict[Tracker, Callable[[Tracking, int], Logger]]" = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}
