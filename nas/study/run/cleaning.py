"""Which files of a study go, by what its trials have come to."""

from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial

from nas.study.run.checkpoints import LANDMARK_ATTR, CheckpointFolder, FileOwner, needed
from nas.study.search.evolution import STOPPED_ATTR
from nas.study.store.reader import Study


def clean(
    checkpoints: CheckpointFolder, study: Study, trials: Callable[[], Sequence[FrozenTrial]], *, over: bool
) -> None:
    """Remove the files that no trial needs any more; where all is ``over``, of trials that a rung stopped too.

    The files are listed before ``trials`` are read: one that is begun in between stays.
    """
    files = checkpoints.files()
    numbers = set(files.values())  # what is best has a file, so that those without one change nothing
    owners = (_file_owner(trial) for trial in trials() if trial.number in numbers)
    checkpoints.remove(checkpoints.orphans(files, needed(study, owners, over=over)))


def _file_owner(trial: FrozenTrial) -> FileOwner:
    return FileOwner(
        number=trial.number,
        state=trial.state.name.lower(),
        values=tuple(trial.values or ()) if max(trial.constraints.values(), default=0.0) <= 0 else (),
        landmark=trial.user_attrs.get(LANDMARK_ATTR),
        paused=STOPPED_ATTR in trial.user_attrs,
    )
