"""Hosts that are lost, and a database server that stops."""

import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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
from benchmarks.crashes.subjects import SUBJECTS, Subject
from benchmarks.crashes.verdict import check, reference, summary
from nas.errors import NasError
from nas.study.store.workers import GRACE_VARIABLE
from tests.postgres import Server

GRACE_S = 10.0


def restarts(server: Server, folder: Path, count: int, rng: random.Random) -> dict[str, Any]:
    """The database server stops hard and starts again, while a study runs."""
    url, done = server.url(), Round()
    subject = SUBJECTS["search"]
    launcher = launch(subject.line(url))
    for _ in range(count):
        wait_for(lambda: launcher.poll() is not None or has_workers(url, subject))
        time.sleep(rng.uniform(0.5, 2.5))
        if launcher.poll() is not None:
            done.problems.append("the study had ended before all restarts")
            break
        server.stop()
        time.sleep(rng.uniform(0.0, 3.0))
        server.start()
        done.hits.append(Hit("server"))
    _, err = launcher.communicate()
    if launcher.returncode:
        done.problems.append(f"the launcher ended with {launcher.returncode}: {err.strip().splitlines()[-1:]}")
    check(subject, url, done, reference(subject, folder))
    return {"restarts": len(done.hits), "trials": done.trials, "problems": done.problems}


def lost_nodes(server: Server, folder: Path, count: int, rng: random.Random) -> dict[str, Any]:
    """A host dies with its launcher and its worker; another has to notice by the grace time alone."""
    os.environ[GRACE_VARIABLE] = str(GRACE_S)
    rounds, subject = [], SUBJECTS["search"]
    for number in range(count):
        url, done = server.url(), Round()
        near = launch(subject.line(url, 1))
        wait_for(partial(has_workers, url, subject))
        script = 'hostname "$0" && exec "$@"'
        far = launch(["unshare", "--uts", "sh", "-c", script, f"far-{number}", *subject.line(url, 1)])
        wait_for(lambda: any(held_by(url, pid) for pid in descendants(far.pid)))  # noqa: B023 - called at once
        time.sleep(rng.uniform(0.0, 2.0))
        wait_for(lambda: any(held_by(url, pid) for pid in descendants(far.pid)))  # noqa: B023 - called at once
        family = descendants(far.pid)
        worker = next((pid for pid in family if held_by(url, pid)), family[0])
        kill(worker, *family, far.pid)  # a worker that sees its launcher die would put its trial back
        far.communicate()
        trial = held_by(url, worker)
        if trial is not None:
            done.hits.append(Hit("node", trial, now(url), epochs_lost(url, subject.parts(url), trial)))
        while near.poll() is None:
            note_resumptions(url, done.hits)
            time.sleep(POLL_S)
        near.communicate()
        check(subject, url, done, reference(subject, folder))
        rounds.append(done)
        print(f"node {number}: problems: {done.problems or 'none'}", flush=True)
    del os.environ[GRACE_VARIABLE]
    return {"grace_s": GRACE_S, **summary(rounds)}


def has_workers(url: str, subject: Subject) -> bool:
    """Whether a worker lives."""
    return any(part.num_alive() > 0 for part in subject.parts(url))


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end:
            raise NasError("waited in vain")
        time.sleep(0.02)
