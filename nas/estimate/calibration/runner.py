"""Does the runs of a calibration, in the process that trains."""

import atexit
import shutil
import tempfile
import time
from functools import cached_property
from pathlib import Path

from safetensors.torch import save_file

from nas.architecture import Architecture
from nas.errors import NasError
from nas.estimate.brief import brief_config
from nas.estimate.calibration.runs import Run
from nas.estimate.calibration.task import CHEAP_SEED, CalibrationTask
from nas.estimate.shared import SharedScorer, train_shared
from nas.estimate.store import Result
from nas.measurement import Interrupted, Measurement
from nas.space.landmarks import landmark_in
from nas.training.checkpoint import Checkpoint
from nas.training.config import GuardConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource
from nas.training.run import ShouldStop, resolve_device, train


class Runner:
    """Does the runs of one task in this process."""

    def __init__(self, task: CalibrationTask, should_stop: ShouldStop | None = None) -> None:
        self.task, self.should_stop = task, should_stop
        self._data: dict[tuple[float, float], DataSource] = {}

    def _open(self, fraction: float = 1.0, scale: float = 1.0) -> DataSource:
        if (fraction, scale) not in self._data:
            config = self.task.data
            if fraction < 1 or scale < 1:
                whole = self._open().summary
                less = {"num_train": round(fraction * whole.num_train), "image_size": round(scale * whole.image_size)}
                config = config.model_copy(update={key: max(1, value) for key, value in less.items()})
            self._data[fraction, scale] = open_data(config)
        return self._data[fraction, scale]

    def do(self, run: Run) -> Result:
        """Train, and tell the scores after each epoch, or those of all architectures on a shared network."""
        if run.kind == "shared":
            return self._share(run)
        config = self.task.training
        if run.kind in ("brief", "inherit"):
            config = brief_config(config, run.epochs)
        if run.kind == "inherit":
            config = config.model_copy(update={"init_from": str(self._plain_weights)})
        started = self._clock()
        measurement = self._train(
            self.task.by_digest[run.digest], self._open(run.fraction, run.scale), config, run.seed
        )
        return curve(measurement, self._clock() - started)

    def _train(
        self,
        architecture: Architecture,
        data: DataSource,
        config: TrainingConfig,
        seed: int,
        checkpoint: Path | None = None,
    ) -> Measurement:
        return train(
            architecture,
            data,
            config,
            seed=seed,
            guard=GuardConfig.only("non-finite"),
            should_stop=self.should_stop,
            checkpoint=checkpoint,
        )

    @cached_property
    def _plain_weights(self) -> Path:
        """The plain network's weights after a full training, in a file that lives as long as this process."""
        folder = Path(tempfile.mkdtemp(prefix="nas-calibrate-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        space, data = self.task.space, self._open()
        plain = landmark_in(space, "plain")
        self._train(plain, data, self.task.training, self.task.seed + CHEAP_SEED, checkpoint=folder / "plain.ckpt")
        weights = folder / "plain.safetensors"
        trained = Checkpoint.load(folder / "plain.ckpt").model
        save_file({name: tensor.contiguous() for name, tensor in trained.items()}, weights)
        return weights

    def _clock(self) -> float:
        """Seconds of this process's one thread, which other load on the machine does not lengthen; of the wall on
        an accelerator."""
        device = resolve_device(self.task.training.device)
        return time.process_time() if device.type == "cpu" else time.perf_counter()

    def _share(self, run: Run) -> Result:
        data, config = self._open(), brief_config(self.task.training, run.epochs)
        started = self._clock()
        try:
            trained = train_shared(self.task.space, run.norm, data, config, seed=run.seed, should_stop=self.should_stop)
        except Interrupted:
            raise
        except NasError as error:
            return {"failed": str(error)}
        train_s = self._clock() - started
        scorer = SharedScorer(trained, data, norm_images=self.task.config.norm_images)
        held = sorted((a for a in self.task.architectures if a.norm == run.norm), key=str)  # those that begin alike
        scores = {architecture.digest: scorer.score(architecture) for architecture in held}
        return {
            "network": scorer.digest,
            "scores": {digest: [score.accuracy, score.loss] for digest, score in scores.items()},
            "train_s": train_s,
            "score_s": self._clock() - started - train_s,
        }


def curve(measurement: Measurement, cost_s: float) -> Result:
    """A training as its store keeps it."""
    return {
        "outcome": measurement.outcome.value,
        "accuracy": [round(epoch.val_accuracy, 6) for epoch in measurement.epochs],
        "loss": [round(epoch.val_loss, 6) for epoch in measurement.epochs],
        "cost_s": round(cost_s, 3),
    }
