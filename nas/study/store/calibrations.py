"""Calibrations in the study database: what their runs gave, one row a run, whichever study did them."""

import sqlalchemy as sa

from nas.estimate.calibration.runs import Result
from nas.study.store import tables
from nas.study.store.engine import only_reading, open_engine
from nas.study.store.errors import explained
from nas.study.store.trials import Ledger, insert_missing


def results_of(url: str, task: str) -> dict[str, Result]:
    """Every result of a task (a digest), by the key of its run; the database has to exist."""
    ours = tables.calibrations.c
    with explained(url), open_engine(url).connect() as connection:
        rows = connection.execute(sa.select(ours.run, ours.result).where(ours.task == task))
        return {row.run: row.result for row in rows}


class CalibrationLedger(Ledger):
    """What a worker on a calibration writes."""

    def begin(self, trial_id: int, digest: str) -> None:
        """Enter a trial with the digest of its run, so that workers that die on it are counted."""
        row = {"trial_id": trial_id, "study_id": self.study_id, "digest": digest, "landmark": None, "crashes": 0}
        with self._owning(trial_id) as connection:
            insert_missing(connection, tables.trials, row)

    def result(self, task: str, run: str) -> Result | None:
        """What a run gave; None before it was done."""
        ours = tables.calibrations.c
        query = sa.select(ours.result).where(ours.task == task, ours.run == run)
        with only_reading(), self._engine.connect() as connection:
            found: Result | None = connection.scalar(query)
            return found

    def record(self, trial_id: int, task: str, run: str, result: Result) -> None:
        """Keep a result; one that another calibration of the same task has brought stays."""
        with self._owning(trial_id) as connection:
            insert_missing(connection, tables.calibrations, {"task": task, "run": run, "result": dict(result)})
