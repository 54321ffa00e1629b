"""Optuna's storage, whose reads do not wait for those who write."""

from collections.abc import Container

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from nas.study.store.engine import only_reading


class TrialStorage(RDBStorage):
    """Reads trials beside a transaction that writes; Optuna's own code does both in one kind of session."""

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """One trial as it is stored."""
        with only_reading():
            return super().get_trial(trial_id)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        with only_reading():
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
