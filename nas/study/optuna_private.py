"""All that this package uses of Optuna beyond its public interface; tested with 5.0, see the bound in pyproject.toml.

Before the bound is raised, tests/study/test_optuna_private.py says what has changed.
"""

from collections.abc import Collection, Container
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna._hypervolume.hssp import _solve_hssp
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

if TYPE_CHECKING:
    from sqlalchemy import Connection

TABLES_VERSION = "v3.2.0.a"
"""Alembic's name for Optuna's tables as they are now."""


def id_of(trial: Trial | FrozenTrial) -> int:
    """A trial's key in the database: its number is one within its study only."""
    return trial._trial_id


def study_id_of(study: Study) -> int:
    """A study's key in the database."""
    return study._study_id


def enqueued(trial: FrozenTrial) -> dict[str, Any]:
    """What `Study.enqueue_trial` was given for a trial; empty where it was not enqueued."""
    return dict(trial.system_attrs.get("fixed_params") or {})


def create_tables(connection: "Connection") -> None:
    """Make what is missing of Optuna's tables within the caller's transaction; Optuna takes one for each of them."""
    models.BaseModel.metadata.create_all(connection)


class ReadByUs(RDBStorage):
    """Optuna's storage where a subclass says how trials are read: Optuna's own way takes a millisecond for each.

    Raises:
        RuntimeError: the tables are of another version of Optuna.
    """

    def __init__(self, url: str, engine_kwargs: dict[str, Any]) -> None:
        super().__init__(url, engine_kwargs, skip_compatibility_check=True)
        try:
            if self._version_manager.get_current_version() != TABLES_VERSION:  # Optuna reads its migrations to know
                self._version_manager.check_table_schema_compatibility()
        except BaseException:
            self.remove_session()
            self.engine.dispose()
            raise

    def read_trials(self, study_id: int, *, beyond: int, also: Collection[int]) -> list[FrozenTrial]:
        """The trials of a study whose id is greater than ``beyond``, and those of some more ids, by their ids.

        Raises:
            KeyError: there is no such study.
        """
        raise NotImplementedError

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """What Optuna's memory of a study asks for: all at first, then what is new or had not ended."""
        trials = self.read_trials(study_id, beyond=trial_id_greater_than, also=included_trial_ids)
        return [trial for trial in trials if states is None or trial.state in states]


def spread_out(losses: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """(count,): those of a front (N, M) that together dominate most, as TPE with several objectives asks."""
    return _spread_out(losses.tobytes(), losses.shape, count)


@lru_cache(maxsize=1)  # a front outlives many draws
def _spread_out(losses: bytes, shape: tuple[int, int], count: int) -> NDArray[np.int64]:
    front = np.frombuffer(losses).reshape(shape)
    worst = front.max(axis=0)
    reference = np.maximum(1.1 * worst, 0.9 * worst)
    reference[reference == 0] = 1e-12
    return _solve_hssp(front, np.arange(len(front)), count, reference)
