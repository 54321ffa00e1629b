"""`train`: one architecture, one data set, one seed, one `Measurement`."""

import time
from pathlib import Path

import torch

from nas.architecture import Architecture, Backbone
from nas.backbones import MICRO
from nas.errors import UserError
from nas.fusion.cost import count_macs, count_params
from nas.fusion.inherit import inherit, load_plain
from nas.fusion.models import build_model, open_branches
from nas.measurement import Measurement
from nas.training.config import GuardConfig, TrainingConfig
from nas.training.data.source import DataSource, num_batches
from nas.training.device import on_device, resolve_device
from nas.training.fit import OnEpoch, Run, ShouldStop, guard_lag, resume, seed_everything
from nas.training.guard import Guard
from nas.training.summary import DataSummary


def train(
    architecture: Architecture,
    data: DataSource,
    config: TrainingConfig,
    *,
    seed: int,
    guard: GuardConfig | None = None,
    on_epoch: OnEpoch | None = None,
    should_stop: ShouldStop | None = None,
    checkpoint: Path | None = None,
) -> Measurement:
    """Build and train one candidate.

    On one machine the result is a function of architecture, data, configuration and ``seed``; nothing that
    ran before in the process has a part in it. Python's, numpy's and torch's global generators are reseeded.

    Args:
        guard: thresholds and verdicts of the guard; None for its defaults.
        on_epoch: called after each epoch; a string stops the run with that reason. Asked again where the
            checkpoint of a run that was stopped in this way is given.
        should_stop: asked before every batch; `Interrupted` is raised as soon as it says yes.
        checkpoint: written after epochs, at most every `CHECKPOINT_S`, and always where the run ends. Where
            it exists, the run goes on from it to the same result as one that was never interrupted, and
            ``on_epoch`` is called for the epochs that it does not hold.

    Raises:
        UserError: the architecture does not fit the data or ``init_from``, or there is no such device.
        Interrupted: there is no result; the checkpoint, if any, holds finished epochs.
        CheckpointError: ``checkpoint`` is damaged or of another run.
        DataError: images hold values that are not finite.
    """
    _check_fit(architecture, data)
    started = time.perf_counter()
    device = resolve_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    seed_everything(seed)
    model = build_model(architecture)
    if not starts_at_zero(architecture.backbone, config):
        open_branches(model)
    if config.init_from is not None:
        inherit(model, load_plain(config.init_from, in_chans=architecture.in_chans), config.init_from)
    identity = {
        "architecture": architecture.digest,
        "data": data.fingerprint,
        "training": config.model_dump(mode="json", exclude={"threads", "device"}),
        "seed": seed,
    }
    resumed = resume(checkpoint, identity)
    run = Run(
        data.run_data(batch_size=config.batch_size, seed=seed, on=device),
        on_device(config, device),
        Guard(guard or GuardConfig()),
        lag=guard_lag(device),
        on_epoch=on_epoch,
        should_stop=should_stop,
        checkpoint=checkpoint,
        identity=identity,
        resumed=resumed,
        started=started,
    )
    num_params, macs = count_params(model), count_macs(model, data.input_size)
    outcome, reason, events = run.fit(model, device)
    return Measurement(
        outcome=outcome,
        score=run.records[-1].val_accuracy if run.records else None,
        seed=seed,
        budget=config.epochs,
        num_params=num_params,
        macs=macs,
        wall_s=run.wall_s(),
        reason=reason,
        epochs=tuple(run.records),
        events=events,
    )


def starts_at_zero(backbone: Backbone, config: TrainingConfig) -> bool:
    """Whether residual branches start at 0, as in timm."""
    return backbone.name != MICRO if config.zero_init_branches is None else config.zero_init_branches


def check_start(backbone: Backbone, config: TrainingConfig, summary: DataSummary) -> None:
    """Raise a `UserError` where the plain network cannot start from ``init_from``."""
    if config.init_from is None:
        return
    plain = Architecture.plain(backbone, num_classes=summary.num_classes, in_chans=summary.in_chans)
    inherit(build_model(plain), load_plain(config.init_from, in_chans=summary.in_chans), config.init_from)


def check_batches(backbone: Backbone, config: TrainingConfig, summary: DataSummary) -> None:
    """Raise a `UserError` where batch norm would have to take statistics of a single value.

    Batches are nearly equal, so that one of a single image stands beside others of two at most.
    """
    count = num_batches(summary.num_train, config.batch_size)
    if summary.num_train // count > 1:
        return
    plain = Architecture.plain(backbone, num_classes=summary.num_classes, in_chans=summary.in_chans)
    with torch.no_grad():
        features = build_model(plain).eval().forward_features(torch.zeros(1, *summary.input_size))
    if features[0, 0].numel() > 1:  # of one image each channel has values enough
        return
    raise UserError(
        f"training.batch_size: {config.batch_size} cuts {summary.num_train} training images into {count} batches, of "
        f"which some hold one image, and of {summary.image_size} × {summary.image_size} pixels the last stage has one "
        f"value a channel left, too few for batch norm; expected 3 or more, or a space of norm: group"
    )


def _check_fit(architecture: Architecture, data: DataSource) -> None:
    for key in ("num_classes", "in_chans"):
        wanted, got = getattr(data, key), getattr(architecture, key)
        if wanted != got:
            raise UserError(f"{key}: the architecture has {got}, but {data.summary.source} needs {wanted}")
