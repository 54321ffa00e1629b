"""What `benchmarks/crash.py` disturbs: a search, a confirmation, a calibration."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from nas.errors import NasError
from nas.report.confirm import verdict
from nas.study.store import tables
from nas.study.store.engine import open_engine
from nas.study.store.reader import Study, calibrations_in, open_study

NAME = "crash"
STUDY_VARIABLE = "CRASH_STUDY"
"""Environment variable with the path of the study file."""
STUDY = """\
schema: 1
name: crash
space: full
sampler: random
pruner: {name: none}
backbone: {name: resnet_micro, stem: small}
data: {source: digits, num_train: 192}
training: {epochs: 3, batch_size: 64, threads: 1, device: cpu}
calibrate: {architectures: 8, seeds: 2, fractions: [], shared_epochs: [2], networks: 2}
"""
Outcome = Counter[tuple[object, ...]]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A command that is killed and typed again, and what it works on."""

    arguments: tuple[str, ...]
    """Of the command, without database and workers."""
    before: tuple[str, ...]
    """Of the command that has to be done first, undisturbed; empty where there is none."""
    parts: Callable[[str], Sequence[Study]]
    """The studies that are worked on in the database of a URL; none before they are stored."""
    more: Callable[[str], list[tuple[object, ...]]]
    """What else must come out alike."""

    def line(self, url: str, workers: int = 2) -> list[str]:
        """The command line that begins the work and goes on with it."""
        return _line(self.arguments, url, workers)

    def prepare(self, url: str) -> None:
        """Do what has to be done first."""
        if self.before:
            subprocess.run(_line(self.before, url, 2), check=True, capture_output=True)

    def outcome(self, url: str) -> Outcome:
        """What the work gave: the multiset of its trials and of what each epoch gave."""
        found = Counter(
            (part.name, t.number, t.state, t.reason, t.digest, t.run, t.seed, t.score, *(e.val_loss for e in t.epochs))
            for part in self.parts(url)
            for t in part.trials()
        )
        found.update(self.more(url))
        return found


def _line(arguments: Sequence[str], url: str, workers: int) -> list[str]:
    file = os.environ[STUDY_VARIABLE]
    command = [file if argument == "FILE" else argument for argument in arguments]
    return [sys.executable, "-m", "nas", *command, "--storage", url, "--workers", str(workers)]


def _study(url: str) -> Study | None:
    try:
        return open_study(url, NAME)
    except NasError:
        return None


def _studies(url: str) -> Sequence[Study]:
    study = _study(url)
    return [study] if study is not None else []


def _confirmations(url: str) -> Sequence[Study]:
    study = _study(url)
    return study.confirmations() if study is not None else []


def _calibrations(url: str) -> Sequence[Study]:
    try:
        return calibrations_in(url, NAME)
    except NasError:
        return []


def _verdict(url: str) -> list[tuple[object, ...]]:
    said = verdict(open_study(url, NAME))
    return [("verdict", said.sentence if said else None)]


def _results(url: str) -> list[tuple[object, ...]]:
    """Of a calibration, without what they cost."""
    with open_engine(url).connect() as connection:
        rows = connection.execute(sa.select(tables.calibrations.c.run, tables.calibrations.c.result)).all()
    costs = ("cost_s", "train_s", "score_s")
    return [
        (run, json.dumps({k: v for k, v in result.items() if k not in costs}, sort_keys=True)) for run, result in rows
    ]


SUBJECTS = {
    "search": Subject(arguments=("search", "FILE", "--trials", "30"), before=(), parts=_studies, more=lambda _: []),
    "confirmation": Subject(
        arguments=("confirm", NAME, "--top", "2", "--seeds", "3"),
        before=("search", "FILE", "--trials", "8"),
        parts=_confirmations,
        more=_verdict,
    ),
    "calibration": Subject(arguments=("calibrate", "FILE"), before=(), parts=_calibrations, more=_results),
}
