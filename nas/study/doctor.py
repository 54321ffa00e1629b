"""What a study stands on: who works, what dead workers hold, files, clock and space. No optuna, no torch."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.study.run.checkpoints import CheckpointFolder, Standing, needed
from nas.study.store.engine import clock_skew_s, open_engine
from nas.study.store.errors import explained
from nas.study.store.reader import Study
from nas.study.store.upgrade import schema_version
from nas.study.store.workers import dead_workers, numbers_of, unleased


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a study stands on at one moment."""

    schema: int
    """Version of the database's tables."""
    dead_workers: tuple[str, ...]
    """Workers that hold trials and are gone."""
    stale_trials: tuple[int, ...]
    """Numbers of running trials (and candidates) whose worker is gone; the next free worker puts them back."""
    orphan_checkpoints: tuple[str, ...]
    """Files that no trial needs any more, or that a crash left half-written."""
    clock_skew_s: float
    """How far this machine's clock is ahead of the database server's; 0 for SQLite."""
    free_bytes: int
    """Space left where checkpoints (and an SQLite database) are written."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``; the fields are stable."""
        return asdict(self)


def orphans_of(study: Study) -> list[Path]:
    """Checkpoints of one study that none of its trials needs."""
    checkpoints = CheckpointFolder(study)
    files = checkpoints.files()  # before the trials: a file of a trial that begins meanwhile is not taken for an orphan
    goals = study.settings.goals
    standings = (
        Standing(
            number=t.number,
            state=t.state,
            values=goals.values(t.values) if t.merit is not None else (),
            landmark=t.landmark,
            paused=t.reason == study.settings.pruner.name and goals.several,
        )
        for t in study.trials()
    )
    over = study.num_ended() >= study.target
    return checkpoints.orphans(files, needed(study, standings, over=over))


def examine(study: Study) -> Health:
    """Look at a study; nothing is changed."""
    parts = study.parts()
    with explained(study.url):
        engine = open_engine(study.url)
        dead = [worker for part in parts for worker in dead_workers(engine, part.study_id)]
        stale = {trial_id for worker in dead for trial_id in worker.trial_ids}
        stale |= {trial_id for part in parts for trial_id in unleased(engine, part.study_id)}
        return Health(
            schema=schema_version(engine) or 0,
            dead_workers=tuple(worker.worker_id for worker in dead),
            stale_trials=numbers_of(engine, stale),
            orphan_checkpoints=tuple(path.name for part in parts for path in orphans_of(part)),
            clock_skew_s=clock_skew_s(engine),
            free_bytes=shutil.disk_usage(_existing(CheckpointFolder(study).folder)).free,
        )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())
