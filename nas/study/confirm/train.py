"""Training the networks of a confirmation, and showing each the test images once."""

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

from nas.architecture import Architecture
from nas.fusion.models import build_model
from nas.measurement import Measurement
from nas.study.confirm.judge import judged
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.run.stop import StopFlag
from nas.study.run.training import OnEpoch, Training
from nas.study.run.worker import Worker
from nas.study.store.reader import Study
from nas.training.checkpoint import load_weights
from nas.training.testing import correct_on_test

POLL_S = 0.5


class TestedTraining(Training):
    """Trains a network in full, and shows it the test images once it is done."""

    __test__ = False

    def of(self, part: Study) -> Self:
        """The same data with the seed of another companion study."""
        twin = copy.copy(self)
        twin.config = part.settings
        return twin

    def __call__(
        self, architecture: Architecture, *, on_epoch: OnEpoch, should_stop: Callable[[], bool], checkpoint: Path
    ) -> Measurement:
        """Train, then measure on the test part; both are stored in one transaction."""
        measurement = super().__call__(architecture, on_epoch=on_epoch, should_stop=should_stop, checkpoint=checkpoint)
        model = build_model(architecture)
        load_weights(checkpoint, model)
        return replace(measurement, test_correct=correct_on_test(model, self.data, self.training))


def confirm_networks(
    study: Study,
    training: TestedTraining,
    *,
    stop: StopFlag,
    worker_id: str,
    max_trials: int | None = None,
    stay: bool = True,
) -> None:
    """Work on a confirmation until every network has every seed, by this worker and the others.

    Args:
        study: the one that is confirmed, or any of its companion studies.
        max_trials: leave after this many trainings.
        stay: with nothing left to train, wait for what other workers may leave.
    """
    parts, done = study.confirmations(), 0
    while not stop() and (left := [part for part in parts if part.num_ended() < part.target]):
        for part in left:
            limit = None if max_trials is None else max_trials - done
            if limit != 0:
                done += Worker(part, training.of(part), stop=stop, worker_id=worker_id).run(limit)
        if not stay or done == max_trials:
            return
        if not stop() and any(part.num_ended() < part.target for part in left):  # others hold the rest
            time.sleep(POLL_S)


def drop_losers(study: Study) -> None:
    """Remove the weights of all networks but the winner and the plain one; both keep those of the first seed."""
    found = judged(study)
    if found is None:
        return
    first = study.confirmations()[0]
    folder = CheckpointFolder(first)
    for record in first.trials():
        if record.digest not in (found.winner.network.digest, found.plain.network.digest):
            folder.path(record.number).unlink(missing_ok=True)
