"""Work that is killed at random moments and typed again until it has ended."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.crashes.hits import (
    LIMIT_S,
    POLL_S,
    Hit,
    Round,
    descendants,
    epochs_lost,
    held_by,
    kill,
    launch,
    note_resumptions,
    now,
)
from benchmarks.crashes.subjects import Subject
from benchmarks.crashes.verdict import check, reference, summary
from nas.study.store import tables
from nas.study.store.engine import open_engine

LAUNCHER_SHARE = 0.15
"""Of the kills."""
PAUSE_EPOCHS, PAUSE_S = 6, 4.0
"""Most epochs and then most seconds between kills, drawn uniformly: a busy machine is not killed into standstill."""
STARTUP_SHARE = 0.2
"""Of the kills that wait for no epoch: they often hit what has only begun to start."""


def crashes(
    subject: Subject, new_url: Callable[[], str], folder: Path, kills: int, rng: random.Random
) -> dict[str, Any]:
    """Rounds until there were enough kills."""
    rounds: list[Round] = []
    left = kills
    while left > 0:
        url = new_url()
        done = disturb(subject, url, rng, left)
        check(subject, url, done, reference(subject, folder))
        rounds.append(done)
        left -= len(done.hits)
        print(f"round {len(rounds)}: {len(done.hits)} kills, problems: {done.problems or 'none'}", flush=True)
    return summary(rounds)


def disturb(subject: Subject, url: str, rng: random.Random, kills: int) -> Round:
    """Run a study to its end with up to this many kills."""
    subject.prepare(url)
    done, line = Round(), subject.line(url)
    launcher = launch(line)
    ready = pause(subject, url, rng)
    end = time.monotonic() + LIMIT_S
    while launcher.poll() is None:
        note_resumptions(url, done.hits)
        if time.monotonic() > end:
            done.problems.append("the study did not end")
            launcher.terminate()
            break
        if len(done.hits) < kills and ready():
            hit = strike(subject, url, launcher.pid, rng)
            if hit is None:
                time.sleep(0.05)
                continue
            done.hits.append(hit)
            if hit.victim == "launcher":
                launcher.wait()
                launcher = launch(line)
            ready = pause(subject, url, rng)
        time.sleep(POLL_S)
    _, err = launcher.communicate()
    if launcher.returncode:
        done.problems.append(f"the launcher ended with {launcher.returncode}: {err.strip().splitlines()[-1:]}")
    return done


def pause(subject: Subject, url: str, rng: random.Random) -> Callable[[], bool]:
    """A random time: it tells whether that is over."""
    goal = num_epochs(subject, url) + (0 if rng.random() < STARTUP_SHARE else rng.randint(0, PAUSE_EPOCHS))
    seconds, since = rng.uniform(0.0, PAUSE_S), []

    def over() -> bool:
        if not since and num_epochs(subject, url) >= goal:
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= seconds

    return over


def num_epochs(subject: Subject, url: str) -> int:
    """Epochs that are stored."""
    if not subject.parts(url):
        return 0
    with open_engine(url).connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(tables.epochs)) or 0)


def strike(subject: Subject, url: str, launcher: int, rng: random.Random) -> Hit | None:
    """Kill a random worker or the launcher; None where nobody may be hit just now."""
    if rng.random() < LAUNCHER_SHARE:
        kill(launcher)
        return Hit("launcher")
    workers = descendants(launcher)
    parts = subject.parts(url)
    if not workers or not parts:  # before, there is nothing that could be lost
        return None
    pid = rng.choice(workers)
    trial = held_by(url, pid)
    if trial is not None and trial in unforgiven(url):
        return None
    kill(pid)
    trial = held_by(url, pid)  # it may have ended or begun one meanwhile
    if trial is None:
        return Hit("worker")
    return Hit("worker", trial, now(url), epochs_lost(url, parts, trial))


def unforgiven(url: str) -> set[int]:
    """Trials that were hit and have had no epoch since."""
    with open_engine(url).connect() as connection:
        query = sa.select(tables.trials.c.trial_id).where(tables.trials.c.crashes > 0)
        return set(connection.scalars(query))
