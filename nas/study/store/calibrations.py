"""Calibrations in the study database: one row a run, so that they go on where they stopped."""

import sqlalchemy as sa

from nas.estimate.store import Result
from nas.study.store import tables
from nas.study.store.engine import open_engine
from nas.study.store.errors import explained
from nas.study.store.lock import making_studies
from nas.study.store.optuna_storage import close_storage, make_storage


class CalibrationTable:
    """A `nas.estimate.store.CalibrationStore`; the database is made where there is none."""

    def __init__(self, url: str) -> None:
        with making_studies(url):
            close_storage(make_storage(url))
        self._url, self._engine = url, open_engine(url)

    def results(self, task: str) -> dict[str, Result]:
        """Every result of a task, by the key of its run."""
        ours = tables.calibrations.c
        with explained(self._url), self._engine.connect() as connection:
            rows = connection.execute(sa.select(ours.run, ours.result).where(ours.task == task))
            return {row.run: row.result for row in rows}

    def add(self, task: str, run: str, result: Result) -> None:
        """Keep a result; one that another calibration of the same task has brought stays."""
        with explained(self._url), self._engine.begin() as connection:
            ours = tables.calibrations.c
            if connection.scalar(sa.select(ours.run).where(ours.task == task, ours.run == run)) is None:
                row = {"task": task, "run": run, "result": dict(result)}
                connection.execute(sa.insert(tables.calibrations).values(row))
