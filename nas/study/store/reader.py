"""Reading a study from its database: frozen records, without optuna and without torch."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from nas.architecture import Architecture
from nas.errors import UserError
from nas.study.config import StudyConfig
from nas.study.records import TrialRecord, WorkerRecord, best_of, front_of
from nas.study.results import results_folder
from nas.study.store import tables
from nas.study.store.clock import clock
from nas.study.store.engine import open_engine
from nas.study.store.errors import explained
from nas.study.store.hints import command_line
from nas.study.store.rows import trial_records
from nas.study.store.urls import redact, results_parent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RUNS_KEY = "calibration_runs"
"""Where the provenance of a calibration holds the keys of its runs."""


class Study:
    """A stored study, read-only. Every call of `trials` reads the database again."""

    def __init__(self, engine: sa.Engine, url: str, row: Mapping[str, Any]) -> None:
        self._engine = engine
        self._row = row
        self.url = url
        self.study_id: int = row["study_id"]
        self.name: str = row["name"]
        self.config: dict[str, Any] = row["config"]
        self.config_text: str = row["config_text"]
        self.space: dict[str, Any] = row["space"]
        self.data: dict[str, Any] = row["data"]
        self.provenance: dict[str, Any] = row["provenance"]
        self.created_at: float = row["created_at"]
        self.confirms: int | None = row["confirms"]
        """The study whose networks this one trains again with another seed."""
        self.calibrates: str | None = row["calibrates"]
        """The name of the study that this one is the calibration of."""

    @cached_property
    def settings(self) -> StudyConfig:
        """The study file as it was understood."""
        return StudyConfig.of_stored(self.config, self.name)

    @property
    def predictor(self) -> Mapping[str, Any]:
        """What `estimate: predictor` ranks candidates by: the fields of `nas.estimate.predictor.Predictor`."""
        return dict(self.provenance["calibration"]["predictor"])

    @property
    def runs(self) -> tuple[str, ...]:
        """The keys of what the trials of a calibration do, by their numbers; of any other study none."""
        return tuple(self.provenance[RUNS_KEY]) if self.calibrates is not None else ()

    @cached_property
    def num_val(self) -> int:
        """Images on which a score was measured."""
        return int(self.data["num_val"])

    @property
    def folder(self) -> Path:
        """Where results are written unless the user says otherwise: beside an SQLite database."""
        return results_folder(results_parent(self.url), self.name)

    def candidates(self) -> "Study | None":
        """The study of cheap scores whose best this one trains; None where every candidate is trained."""
        found = _studies(self._engine, self.url, tables.studies.c.candidates_of == self.study_id)
        return found[0] if found else None

    def confirmations(self) -> list["Study"]:
        """The studies that train the best of this one again, one a seed; none before `nas confirm`.

        Of one of them: all of them.
        """
        return _studies(self._engine, self.url, tables.studies.c.confirms == (self.confirms or self.study_id))

    def parts(self) -> list["Study"]:
        """This study and those that work for it."""
        candidates = self.candidates()
        others = self.confirmations() if self.confirms is None else []
        calibrations = _calibrations(self._engine, self.url, self.name)
        return [self, *([candidates] if candidates else []), *others, *calibrations]

    def test_results(self) -> "dict[str, NDArray[np.bool_]]":
        """By digest, which test images (n,) a network classified correctly; only confirmations have any."""
        import numpy as np

        ours = tables.tests.c
        query = sa.select(ours.digest, ours.num_images, ours.correct).where(ours.study_id == self.study_id)
        with explained(self.url), self._engine.connect() as connection:
            return {
                row.digest: np.unpackbits(np.frombuffer(row.correct, np.uint8), count=row.num_images).astype(bool)
                for row in connection.execute(query)
            }

    def ranking(self) -> list[Architecture]:
        """What was scored in full, best first by all objectives; of equals the one that was drawn first."""
        from nas.study.pareto import best_first, losses_of

        ours, values = tables.trials.c, tables.optuna_values.c
        query = (
            sa.select(ours.trial_id, tables.architectures.c.content, values.value)
            .join(tables.trials, ours.digest == tables.architectures.c.digest)
            .join(tables.optuna_trials, tables.optuna_trials.c.trial_id == ours.trial_id)
            .join(tables.optuna_values, values.trial_id == ours.trial_id)
            .where(ours.study_id == self.study_id, tables.state_text() == "COMPLETE")
            .order_by(tables.optuna_trials.c.number, values.objective)
        )
        scored: dict[int, tuple[Any, list[float]]] = {}
        with explained(self.url), self._engine.connect() as connection:
            for row in connection.execute(query):
                scored.setdefault(row.trial_id, (row.content, []))[1].append(row.value)
        found = list(scored.values())
        order = best_first(losses_of(self.settings.goals, [values for _, values in found]))
        return [Architecture.from_dict(found[i][0]) for i in order]

    def num_ended(self) -> int:
        """Trials that came to an end, without reading them all."""
        ended = tables.members_of(self.study_id).where(tables.state_text().in_(tables.ENDED))
        with explained(self.url), self._engine.connect() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(ended.subquery())) or 0)

    @property
    def num_members(self) -> int:
        """Trials that the study has asked for so far, without those that a constraint keeps from training."""
        ours = tables.members.c
        count = sa.select(sa.func.count()).where(ours.study_id == self.study_id).scalar_subquery()
        with explained(self.url), self._engine.connect() as connection:
            return int(connection.scalar(sa.select(count - tables.num_refused_of(self.study_id))) or 0)

    @property
    def target(self) -> int:
        """Trials that the study is to have in the end, those that a constraint keeps from training among them."""
        with explained(self.url), self._engine.connect() as connection:
            return int(connection.scalar(tables.num_trials_of(self.study_id)) or 0)

    @property
    def num_wanted(self) -> int:
        """Networks that the study is to train."""
        query = sa.select(tables.studies.c.target).where(tables.studies.c.study_id == self.study_id)
        with explained(self.url), self._engine.connect() as connection:
            return int(connection.scalar(query) or 0)

    def trials(self) -> tuple[TrialRecord, ...]:
        """All trials in the order of their numbers."""
        with explained(self.url), self._engine.connect() as connection:
            return trial_records(connection, self.study_id, self.settings, self.runs)

    def promotions(self) -> set[tuple[int, int]]:
        """(number of the trial, epochs): rungs past which a trial was let after it had been stopped there."""
        ours = tables.promotions.c
        query = (
            sa.select(tables.optuna_trials.c.number, ours.epochs)
            .join(tables.promotions, ours.trial_id == tables.optuna_trials.c.trial_id)
            .where(ours.study_id == self.study_id)
        )
        with explained(self.url), self._engine.connect() as connection:
            return {(row.number, row.epochs) for row in connection.execute(query)}

    def workers(self) -> tuple[WorkerRecord, ...]:
        """All workers that ever joined, oldest first."""
        columns = [tables.workers.c[field.name] for field in fields(WorkerRecord)]
        query = sa.select(*columns).where(tables.workers.c.study_id == self.study_id)
        with explained(self.url), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(tables.workers.c.started_at)).mappings().all()
        return tuple(WorkerRecord(**row) for row in rows)

    def now(self) -> float:
        """The moment by the clock of the database, as all moments of workers are."""
        with explained(self.url), self._engine.connect() as connection:
            return clock(connection)

    def num_alive(self) -> int:
        """Workers that are alive now."""
        now = self.now()
        return sum(worker.alive(now) for worker in self.workers())

    def trial(self, number: int) -> TrialRecord:
        """One trial; `UserError` with the numbers that exist where there is none."""
        trials = self.trials()
        for record in trials:
            if record.number == number:
                return record
        known = f"0 to {trials[-1].number}" if trials else "none yet"
        raise UserError(f"study {self.name!r} has no trial {number}; trials: {known}")

    def best(self) -> TrialRecord | None:
        """The complete trial that is best by the leading objective, None before there is one; see `best_of`."""
        return best_of(self.trials(), self.settings.goals)

    def front(self) -> tuple[TrialRecord, ...]:
        """The complete trials of which no other is better in every objective; see `front_of`."""
        return front_of(self.trials(), self.settings.goals)


def study_names(url: str) -> list[str]:
    """The names of all fusion-nas studies in a database, without those that work for another."""
    engine, ours = open_engine(url), tables.studies.c
    alone = (column.is_(None) for column in (ours.candidates_of, ours.confirms, ours.calibrates))
    query = sa.select(ours.name).where(*alone).order_by(ours.study_id)
    with explained(url), engine.connect() as connection:
        return list(connection.scalars(query))


def calibrations_in(url: str, name: str | None = None) -> list[Study]:
    """The calibrations in a database, oldest first; only those of the study ``name`` where that is given."""
    return _calibrations(open_engine(url), url, name)


def _calibrations(engine: sa.Engine, url: str, name: str | None) -> list[Study]:
    ours = tables.studies.c
    wanted = ours.calibrates.is_not(None) if name is None else ours.calibrates == name
    with explained(url), engine.connect() as connection:
        rows = connection.execute(sa.select(tables.studies).where(wanted).order_by(ours.study_id)).mappings().all()
    return [Study(engine, url, dict(row)) for row in rows]


def open_study(url: str, name: str) -> Study:
    """A stored study.

    Raises:
        UserError: there is none (names those that exist), or it was deleted with Optuna.
    """
    found = _studies(open_engine(url), url, tables.studies.c.name == name)
    if not found:
        known = ", ".join(study_names(url)) or "none"
        raise UserError(f"{redact(url)}: no study named {name!r}; studies: {known}")
    return found[0]


def _studies(engine: sa.Engine, url: str, condition: sa.ColumnElement[bool]) -> list[Study]:
    """The studies of a condition, oldest first."""
    ours, theirs = tables.studies, tables.optuna_studies
    both = ours.outerjoin(theirs, sa.and_(theirs.c.study_id == ours.c.study_id, theirs.c.study_name == ours.c.name))
    query = sa.select(ours, theirs.c.study_name).select_from(both).where(condition).order_by(ours.c.study_id)
    with explained(url), engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    for row in rows:
        if row["study_name"] is None:
            raise deleted(url, row["name"])
    return [Study(engine, url, dict(row)) for row in rows]


def deleted(url: str, name: str) -> UserError:
    """What to say of a study of which only our rows are left."""
    rest = command_line("delete", name, url=url)
    return UserError(f"{redact(url)}: study {name!r} was deleted with Optuna; remove what is left of it: {rest}")
