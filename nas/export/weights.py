"""The trained network of a trial: from its checkpoint, or trained again."""

from pathlib import Path

from nas.architecture import Architecture
from nas.errors import NasError, UserError
from nas.fusion.models import FusionResNet, build_model
from nas.study.records import TrialRecord
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.run.training import Training
from nas.study.store.reader import Study
from nas.temporary import temporary_folder
from nas.training.checkpoint import Checkpoint, CheckpointError, load_weights


def stored_model(study: Study, record: TrialRecord, architecture: Architecture) -> FusionResNet:
    """The network with the weights of the trial's checkpoint.

    Raises:
        UserError: there is no checkpoint, it is damaged, or it is of another architecture or another epoch.
    """
    path = CheckpointFolder(study).path(record.number)
    if not path.exists():
        raise UserError(
            f"trial {record.number} of study {study.name!r} has no weights any more ({path}): only the best trial's "
            "and the plain network's are kept; --retrain trains it again, --format yaml needs none"
        )
    try:
        return _model_of(path, architecture, num_epochs=len(record.epochs))
    except CheckpointError as error:
        raise UserError(f"{error}; --retrain trains it again") from None


def _model_of(path: Path, architecture: Architecture, *, num_epochs: int) -> FusionResNet:
    checkpoint = Checkpoint.load(path)
    found = checkpoint.identity["architecture"]
    if found != architecture.digest:
        raise CheckpointError(f"{path}: belongs to architecture {found}, expected {architecture.digest}")
    if len(checkpoint.records) != num_epochs:
        raise CheckpointError(f"{path}: holds epoch {len(checkpoint.records)}, expected {num_epochs}")
    model = build_model(architecture)
    load_weights(path, model)
    return model


def retrained_model(training: Training, record: TrialRecord, architecture: Architecture) -> FusionResNet:
    """Train a trial again with the seed of its study, to the score that it had.

    Raises:
        NasError: the score is another one, on another machine or with other versions than then.
    """
    with temporary_folder() as folder:
        path = folder / f"trial-{record.number}.ckpt"
        measurement = training(architecture, on_epoch=lambda _: None, should_stop=lambda: False, checkpoint=path)
        if measurement.score != record.score:
            raise NasError(
                f"trial {record.number} trained again has the validation accuracy {measurement.score}, recorded was "
                f"{record.score}: not the machine, the number of threads or the versions of then; nothing was written"
            )
        return _model_of(path, architecture, num_epochs=len(record.epochs))
