"""Storing what a calibration is to do: a companion study with one trial a run.

A companion study is worked on like any other. It is there before the study that it is for, so it knows that one's name
only. Its trials are drawn in the order of their runs, and what a run gave is kept beside them for every calibration of
the same task.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from nas.study.calibration.task import ARCHITECTURES_KEY, digest_of
from nas.study.config import StudyConfig
from nas.study.optuna_private import study_id_of
from nas.study.store.calibrations import results_of
from nas.study.store.errors import explained
from nas.study.store.lock import making_studies
from nas.study.store.optuna_storage import close_storage, make_optuna_study, make_storage
from nas.study.store.reader import RUNS_KEY, Study, open_study
from nas.study.store.studies import add_studies, change_study, stored_study

if TYPE_CHECKING:
    from collections.abc import Collection

    from nas.estimate.calibration.task import CalibrationTask
    from nas.training.summary import DataSummary

UNDER_WAY = (TrialState.RUNNING, TrialState.WAITING)


def prepare_calibration(
    config: StudyConfig,
    text: str,
    url: str,
    task: "CalibrationTask",
    *,
    summary: "DataSummary",
    provenance: Mapping[str, Any],
    force: bool = False,
) -> Study | None:
    """Store the runs of a calibration that are missing; None where nothing is left to do.

    Safe against a second launcher and a crash in between. What an earlier call stored stays, and runs that failed are
    tried again.

    Args:
        config: the study that the calibration is for; ``text`` is its file.
        summary: of its data.
        provenance: versions and machine.
        force: also in a database that holds only tables of another program.
    """
    companion = config.of_calibration(digest_of(task), task.config, len(task.runs))
    stored_study(url, companion.name)  # brings an older database up to date, which takes the lock itself
    with making_studies(url), explained(url):
        storage = make_storage(url, force=force)
        try:
            known = results_of(url, task.digest)
            if all(run.key in known for run in task.runs):
                return None
            made = make_optuna_study(storage, companion.name, ["maximize"])
            stored = stored_study(url, companion.name)
            runs = list(stored.runs) if stored else []
            runs += _missing(task, known, runs, made.get_trials(deepcopy=False))
            notes = {RUNS_KEY: runs, ARCHITECTURES_KEY: [one.canonical().to_dict() for one in task.architectures]}
            row = {"target": len(runs), "provenance": {**provenance, **notes}}
            if not change_study(storage.engine, study_id_of(made), **row):
                row |= {
                    "study_id": study_id_of(made),
                    "name": companion.name,
                    "created_at": time.time(),
                    "config": companion.to_dict(),
                    "config_text": text,
                    "space": task.space.to_dict(),
                    "data": asdict(summary),
                    "calibrates": config.name,
                }
                add_studies(storage.engine, [row])
        finally:
            close_storage(storage)
    return open_study(url, companion.name)


def _missing(
    task: "CalibrationTask",
    known: "Collection[str]",
    runs: list[str],
    trials: list[FrozenTrial],
) -> list[str]:
    """Keys of runs that have no result and that no trial is doing or will do.

    Args:
        known: keys of the runs that have one.
        runs: what trials do, by their numbers; those behind the last of ``trials`` are yet to be drawn.
    """
    doing = {runs[trial.number] for trial in trials if trial.state in UNDER_WAY and trial.number < len(runs)}
    doing.update(runs[len(trials) :])
    return [run.key for run in task.runs if run.key not in known and run.key not in doing]
