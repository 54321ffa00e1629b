"""What is asked before a study is stored, so that no mistake costs its name. ``--dry-run`` asks the very same.

`check_place` needs no torch and asks here; `open_checked` looks at the data, in a process that may import torch.
"""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from nas.errors import UserError
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.launch import processes
from nas.study.launch.engines import Engine
from nas.study.store.urls import check_driver, redact, refuse_network, sqlite_path
from nas.training.tracking import check_tracker

if TYPE_CHECKING:
    from nas.training.data.source import DataSource
    from nas.training.summary import DataSummary


def check_place(config: StudyConfig, url: str, engine: Engine) -> None:
    """Whether a study can be stored at ``url`` and tracked, and whether the engine's workers find their devices.

    Raises:
        UserError: one of them cannot be.
    """
    check_tracker(config.tracking)
    path = sqlite_path(url)
    if path is None:
        check_driver(url)
    else:
        refuse_network(path, url)
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"{redact(url)}: the folder {folder} is not writable")
    engine.check(url)


def open_checked(config: StudyConfig) -> "tuple[DataSource, SearchSpace]":
    """The data of a study file and its space over them, once everything in the file is known to fit. Imports torch.

    Raises:
        UserError: the data cannot be read, or weights, batches, sampler, constraints or calibration do not fit them.
    """
    from nas.study.calibration.task import task_of
    from nas.study.launch.constraints import check_constraints
    from nas.study.search.sampler import check_sampler
    from nas.training.data import open_data
    from nas.training.run import check_batches, check_start

    data = open_data(config.data)
    check_start(config.backbone, config.training, data.summary)
    space = SearchSpace.load(config.space).on(
        backbone=config.backbone, num_classes=data.num_classes, in_chans=data.in_chans
    )
    if "batch" in space.norm:
        check_batches(config.backbone, config.training, data.summary)
    check_sampler(config.sampler, space)
    check_constraints(config, space, data.input_size)
    if asked := config.first_calibration:
        task_of(config, data.summary, asked)
    return data, space


def describe(config: StudyConfig) -> "DataSummary":
    """What `open_checked` and a look at the labels find out about the data, as another process can be told."""
    from nas.training.data.labels import check_labels

    data, _ = open_checked(config)
    return replace(data.summary, labels=check_labels(data))


def read_data(config: StudyConfig) -> "DataSummary":
    """What `describe` says in a process of its own; while that imports torch, this one imports what storing needs.

    Raises:
        UserError: as `describe`.
    """
    processes.warm_up()
    import alembic.context  # noqa: F401 - Optuna imports it late
    import optuna  # noqa: F401

    from nas.study.store import trials  # noqa: F401

    summary: DataSummary = processes.ask(describe, config)
    return summary
