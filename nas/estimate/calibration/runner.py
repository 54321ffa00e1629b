"""Does the runs of a calibration, in the process that trains."""

import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors.torch import save_file

from nas.architecture import Architecture
from nas.errors import NasError
from nas.estimate.brief import brief_config
from nas.estimate.calibration.runs import Result, Run
from nas.estimate.calibration.task import CHEAP_SEED, CalibrationTask
from nas.estimate.calibration.watch import OnEpoch, Watch
from nas.estimate.shared_ensemble import LOCK_WAIT_S
from nas.estimate.shared_scoring import SharedScorer
from nas.estimate.shared_training import train_shared
from nas.measurement import Interrupted, Measurement
from nas.space.landmarks import landmark_in
from nas.training.checkpoint import Checkpoint, CheckpointError
from nas.training.config import GuardConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource
from nas.training.fit import ShouldStop
from nas.training.run import train


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a run gave."""

    result: Result
    measurement: Measurement | None
    """The training; None of a shared network."""


class Runner:
    """Does the runs of one task in this process."""

    def __init__(
        self,
        task: CalibrationTask,
        *,
        folder: Path,
        data: DataSource | None = None,
        should_stop: ShouldStop | None = None,
    ) -> None:
        """Open the data of a task.

        Args:
            folder: where all processes of the task keep the weights that several runs start from.
            data: the task's, where it is open already.
            should_stop: asked before every batch; a run then raises `Interrupted`.
        """
        self.task, self.folder, self.should_stop = task, folder, should_stop
        self._data: dict[tuple[float, float], DataSource] = {(1.0, 1.0): data or open_data(task.data)}

    def _open(self, fraction: float = 1.0, scale: float = 1.0) -> DataSource:
        if (fraction, scale) not in self._data:
            whole = self._open().summary
            less = {"num_train": round(fraction * whole.num_train), "image_size": round(scale * whole.image_size)}
            config = self.task.data.model_copy(update={key: max(1, value) for key, value in less.items()})
            self._data[fraction, scale] = open_data(config)
        return self._data[fraction, scale]

    def do(self, run: Run, *, on_epoch: OnEpoch | None = None, checkpoint: Path | None = None) -> Done:
        """Train, and tell the scores after each epoch, or those of all architectures on a shared network.

        Args:
            on_epoch: hears of each epoch as it ends.
            checkpoint: written as the training gets on; where it exists, the training goes on from it.

        Raises:
            Interrupted: ``should_stop`` said yes.
            CheckpointError: ``checkpoint`` is damaged or of another run.
        """
        if run.kind == "shared":
            return Done(result=self._share(run, on_epoch, checkpoint), measurement=None)
        config = self.task.training
        if run.kind in ("brief", "inherit"):
            config = brief_config(config, run.epochs)
        if run.kind == "inherit":
            config = config.model_copy(update={"init_from": str(self._plain_weights())})
        watch = Watch(config.device, on_epoch)
        measurement = self._train(
            self.task.by_digest[run.digest],
            self._open(run.fraction, run.scale),
            config,
            run.seed,
            on_epoch=watch.note,
            checkpoint=checkpoint,
        )
        return Done(result=curve(measurement, watch.whole_s(measurement.epochs)), measurement=measurement)

    def _train(
        self,
        architecture: Architecture,
        data: DataSource,
        config: TrainingConfig,
        seed: int,
        *,
        on_epoch: OnEpoch | None = None,
        checkpoint: Path | None = None,
    ) -> Measurement:
        return train(
            architecture,
            data,
            config,
            seed=seed,
            guard=GuardConfig.only("non-finite"),
            on_epoch=on_epoch,
            should_stop=self.should_stop,
            checkpoint=checkpoint,
        )

    def _plain_weights(self) -> Path:
        """The plain network's weights after a full training, in a file that the first process to need it makes."""
        seed = self.task.seed + CHEAP_SEED
        weights = self.folder / f"plain-{self.task.digest}-s{seed}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        while not weights.exists():
            if self.should_stop is not None and self.should_stop():
                raise Interrupted("the plain network's training was interrupted")
            try:
                with FileLock(weights.with_suffix(".lock"), timeout=LOCK_WAIT_S):
                    if not weights.exists():
                        self._make_plain(weights, seed)
            except Timeout:
                continue
        return weights

    def _make_plain(self, weights: Path, seed: int) -> None:
        """Train the plain network in full; one that was broken off goes on from its checkpoint."""
        checkpoint, half = weights.with_suffix(".ckpt"), weights.with_suffix(".half")
        plain = landmark_in(self.task.space, "plain")
        self._train(plain, self._open(), self.task.training, seed, checkpoint=checkpoint)
        trained = Checkpoint.load(checkpoint).model
        save_file({name: tensor.contiguous() for name, tensor in trained.items()}, half)
        os.replace(half, weights)  # noqa: PTH105 - the file is there as a whole or not at all
        checkpoint.unlink()

    def _share(self, run: Run, on_epoch: OnEpoch | None, checkpoint: Path | None) -> Result:
        data, config = self._open(), brief_config(self.task.training, run.epochs)
        watch = Watch(config.device, on_epoch)
        try:
            trained = train_shared(
                self.task.space,
                run.norm,
                data,
                config,
                seed=run.seed,
                checkpoint=checkpoint,
                on_epoch=watch.note,
                should_stop=self.should_stop,
            )
        except (Interrupted, CheckpointError):
            raise
        except NasError as error:
            return {"failed": str(error)}
        train_s = watch.whole_s(trained.epochs)
        watch = Watch(config.device, None)
        scorer = SharedScorer(trained, data, norm_images=self.task.config.norm_images)
        held = sorted((a for a in self.task.architectures if a.norm == run.norm), key=str)  # those that begin alike
        scores = {architecture.digest: scorer.score(architecture) for architecture in held}
        return {
            "network": scorer.digest,
            "scores": {digest: [score.accuracy, score.loss] for digest, score in scores.items()},
            "train_s": train_s,
            "score_s": watch.spent_s(),
        }


def curve(measurement: Measurement, cost_s: float) -> Result:
    """A training as its store keeps it."""
    return {
        "outcome": measurement.outcome.value,
        "accuracy": [round(epoch.val_accuracy, 6) for epoch in measurement.epochs],
        "loss": [round(epoch.val_loss, 6) for epoch in measurement.epochs],
        "cost_s": round(cost_s, 3),
    }
