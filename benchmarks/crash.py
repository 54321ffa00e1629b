"""Kills workers and launchers at random moments, and compares what comes out with undisturbed studies.

    python benchmarks/crash.py                      # 50 kills on SQLite, 50 on PostgreSQL, 5 lost nodes, 5 restarts
    python benchmarks/crash.py --only sqlite --kills 5 --no-write

A round is one study of two workers that really train. At random moments a random worker, sometimes the launcher, gets
`kill -9`; the same command goes on. A trial that was hit is not hit again before its next epoch: a trial whose workers
die twice within an epoch is failed by design, as the one that kills them. Rounds follow each other until there were
enough kills, each on a new database; the same study is run once without any kill. A lost node is a launcher on
a host name of its own (a UTS namespace, which needs root) that dies with its worker: only the grace time tells.
Everything stays on this machine; PostgreSQL is a temporary server. Writes benchmarks/results/crash.json and the table
of docs/distributed.md.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from nas.documents import write_atomically  # noqa: E402
from nas.errors import NasError, UserError  # noqa: E402
from nas.machine import process_lives  # noqa: E402
from nas.study.run.checkpoints import CheckpointFolder  # noqa: E402
from nas.study.store import tables  # noqa: E402
from nas.study.store.clock import clock  # noqa: E402
from nas.study.store.engine import open_engine  # noqa: E402
from nas.study.store.reader import Study, open_study  # noqa: E402
from nas.study.store.workers import GRACE_VARIABLE  # noqa: E402
from nas.training.checkpoint import Checkpoint  # noqa: E402
from tests.postgres import Server, running  # noqa: E402

RESULTS = HERE / "results" / "crash.json"
PAGE = HERE.parent / "docs" / "distributed.md"
BEGIN, END = "<!-- crash: begin -->", "<!-- crash: end -->"
NAME, EPOCHS, TRIALS = "crash", 3, 30
LAUNCHER_SHARE = 0.15
"""Of the kills."""
PAUSE_EPOCHS, PAUSE_S = 6, 4.0
"""Most epochs and then most seconds between kills, drawn uniformly: a busy machine is not killed into standstill."""
STARTUP_SHARE = 0.2
"""Of the kills that wait for no epoch: they often hit what has only begun to start."""
GRACE_S = 10.0
LIMIT_S = 7200.0
POLL_S = 0.1
STUDY = """\
schema: 1
name: crash
space: full
sampler: random
pruner: {name: none}
backbone: {name: resnet_micro, stem: small}
data: {source: digits, num_train: 192}
training: {epochs: 3, batch_size: 64, threads: 1, device: cpu}
"""


@dataclass
class Hit:
    """One kill, and what became of the trial that it hit."""

    victim: str
    trial: int | None = None
    """Its id, None where no trial was running."""
    at: float = 0.0
    epochs_lost: int = 0
    """Whole epochs that were stored but are run again."""
    resumed_after_s: float | None = None


@dataclass
class Round:
    """One disturbed study and its hits."""

    hits: list[Hit] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def command(url: str, workers: int = 2) -> list[str]:
    """The command line that creates the study and goes on with it."""
    run = [sys.executable, "-m", "nas", "search", str(Path(os.environ["CRASH_STUDY"])), "--storage", url]
    return [*run, "--trials", str(TRIALS), "--workers", str(workers)]


def launch(line: list[str]) -> "subprocess.Popen[str]":
    """Start a launcher."""
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and what these have started: workers, and the one that forks them."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
    found, family = list[int](), {pid}
    while new := [child for child, parent in parents.items() if parent in family and child not in family]:
        found += new
        family.update(new)
    return found


def kill(*pids: int) -> None:
    """``kill -9`` to all at once, and wait until they are dead."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(process_lives(pid) for pid in pids):
        time.sleep(0.002)


def opened(url: str) -> Study | None:
    """The study, None before it is stored."""
    try:
        return open_study(url, NAME)
    except UserError:
        return None


def has_workers(url: str) -> bool:
    """Whether a worker of the study lives."""
    study = opened(url)
    return study is not None and study.num_alive() > 0


def held_by(url: str, pid: int) -> int | None:
    """The id of the trial that a process trains; the lease of one that has ended may be there for a moment."""
    ended = sa.select(tables.measurements.c.trial_id)
    query = (
        sa.select(tables.leases.c.trial_id)
        .join(tables.workers, tables.leases.c.worker_id == tables.workers.c.worker_id)
        .where(tables.workers.c.pid == pid, tables.leases.c.trial_id.not_in(ended))
    )
    with open_engine(url).connect() as connection:
        return connection.scalar(query)


def epochs_lost(study: Study, trial_id: int) -> int:
    """Epochs of a trial that are stored but that its checkpoint does not hold."""
    with open_engine(study.url).connect() as connection:
        stored = connection.scalar(
            sa.select(sa.func.count()).select_from(tables.epochs).where(tables.epochs.c.trial_id == trial_id)
        )
        number = connection.scalar(
            sa.select(tables.optuna_trials.c.number).where(tables.optuna_trials.c.trial_id == trial_id)
        )
    path = CheckpointFolder(study).path(number)
    return int(stored or 0) - (len(Checkpoint.load(path).records) if path.exists() else 0)


def unforgiven(url: str) -> set[int]:
    """Trials that were hit and have had no epoch since."""
    with open_engine(url).connect() as connection:
        query = sa.select(tables.trials.c.trial_id).where(tables.trials.c.crashes > 0)
        return set(connection.scalars(query))


def note_resumptions(url: str, hits: list[Hit]) -> None:
    """Note since when trials that were hit are held again."""
    open_hits = [hit for hit in hits if hit.trial is not None and hit.resumed_after_s is None]
    if not open_hits or opened(url) is None:
        return
    with open_engine(url).connect() as connection:
        since = dict(connection.execute(sa.select(tables.leases.c.trial_id, tables.leases.c.since)).all())
    for hit in open_hits:
        if since.get(hit.trial, 0.0) > hit.at:
            hit.resumed_after_s = since[hit.trial] - hit.at


def now(url: str) -> float:
    """The database's clock."""
    with open_engine(url).connect() as connection:
        return clock(connection)


def disturb(url: str, rng: random.Random, kills: int) -> Round:
    """Run a study to its end with up to this many kills."""
    done, line = Round(), command(url)
    launcher = launch(line)
    ready = pause(url, rng)
    end = time.monotonic() + LIMIT_S
    while launcher.poll() is None:
        note_resumptions(url, done.hits)
        if time.monotonic() > end:
            done.problems.append("the study did not end")
            launcher.terminate()
            break
        if len(done.hits) < kills and ready():
            hit = strike(url, launcher.pid, rng)
            if hit is None:
                time.sleep(0.05)
                continue
            done.hits.append(hit)
            if hit.victim == "launcher":
                launcher.wait()
                launcher = launch(line)
            ready = pause(url, rng)
        time.sleep(POLL_S)
    _, err = launcher.communicate()
    if launcher.returncode:
        done.problems.append(f"the launcher ended with {launcher.returncode}: {err.strip().splitlines()[-1:]}")
    return done


def pause(url: str, rng: random.Random) -> Callable[[], bool]:
    """A random time: it tells whether that is over."""
    goal = num_epochs(url) + (0 if rng.random() < STARTUP_SHARE else rng.randint(0, PAUSE_EPOCHS))
    seconds, since = rng.uniform(0.0, PAUSE_S), []

    def over() -> bool:
        if not since and num_epochs(url) >= goal:
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= seconds

    return over


def num_epochs(url: str) -> int:
    """Epochs that are stored."""
    if opened(url) is None:
        return 0
    with open_engine(url).connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(tables.epochs)) or 0)


def strike(url: str, launcher: int, rng: random.Random) -> Hit | None:
    """Kill a random worker or the launcher; None where nobody may be hit just now."""
    if rng.random() < LAUNCHER_SHARE:
        kill(launcher)
        return Hit("launcher")
    workers = descendants(launcher)
    study = opened(url)
    if not workers or study is None:  # before, there is nothing that could be lost
        return None
    pid = rng.choice(workers)
    trial = held_by(url, pid)
    if trial is not None and trial in unforgiven(url):
        return None
    kill(pid)
    trial = held_by(url, pid)  # it may have ended or begun one meanwhile
    if trial is None:
        return Hit("worker")
    return Hit("worker", trial, now(url), epochs_lost(study, trial))


def outcome(study: Study) -> Counter[tuple[object, ...]]:
    """What a study found: the multiset of its work and of what each epoch gave."""
    return Counter(
        (t.number, t.state, t.reason, t.digest, t.seed, t.score, tuple(e.val_loss for e in t.epochs))
        for t in study.trials()
    )


def check(url: str, undisturbed: Counter[tuple[object, ...]]) -> list[str]:
    """What is wrong with a study that has ended."""
    study = open_study(url, NAME)
    trials = study.trials()
    problems = [f"trial {t.number} is {t.state}: {t.reason}" for t in trials if t.state != "complete"]
    if len(trials) != TRIALS:
        problems.append(f"{len(trials)} trials instead of {TRIALS}")
    with open_engine(url).connect() as connection:
        measured = Counter(connection.scalars(sa.select(tables.measurements.c.trial_id)))
        leases = connection.scalar(sa.select(sa.func.count()).select_from(tables.leases))
        orphans = [
            f"{table.name}: rows of no trial"
            for table in (tables.trials, tables.epochs, tables.events, tables.measurements, tables.leases)
            if connection.scalar(
                sa.select(sa.func.count())
                .select_from(table)
                .where(table.c.trial_id.not_in(sa.select(tables.optuna_trials.c.trial_id)))
            )
        ]
        if connection.dialect.name == "sqlite":
            verdict = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
            problems += [f"integrity_check: {verdict}"] if verdict != "ok" else []
    problems += [f"trial {trial} was trained {count} times" for trial, count in measured.items() if count > 1]
    problems += [f"{len(measured)} trials measured"] if len(measured) != TRIALS else []
    problems += [f"{leases} leases left"] if leases else []
    problems += orphans
    if outcome(study) != undisturbed:
        problems.append("the results differ from those of the undisturbed study")
    return problems


@cache
def reference(folder: Path) -> Counter[tuple[object, ...]]:
    """The same study without a kill."""
    url = f"sqlite:///{folder / 'undisturbed.db'}"
    subprocess.run(command(url), check=True, capture_output=True)
    return outcome(open_study(url, NAME))


def crashes(new_url: Callable[[], str], folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """Rounds until there were enough kills."""
    rounds: list[Round] = []
    left = kills
    while left > 0:
        url = new_url()
        done = disturb(url, rng, left)
        done.problems += check(url, reference(folder))
        rounds.append(done)
        left -= len(done.hits)
        print(f"round {len(rounds)}: {len(done.hits)} kills, problems: {done.problems or 'none'}", flush=True)
    return summary(rounds)


def summary(rounds: list[Round]) -> dict[str, Any]:
    """Plain values for the file of results."""
    hits = [hit for one in rounds for hit in one.hits]
    return {
        "kills": len(hits),
        "of_launchers": sum(hit.victim == "launcher" for hit in hits),
        "in_a_trial": sum(hit.trial is not None for hit in hits),
        "studies": len(rounds),
        "trials": len(rounds) * TRIALS,
        "problems": [problem for one in rounds for problem in one.problems],
        "resumed_after_s": [round(hit.resumed_after_s, 2) for hit in hits if hit.resumed_after_s is not None],
        "resumption_not_seen": sum(hit.trial is not None and hit.resumed_after_s is None for hit in hits),
        "epochs_lost": dict(Counter(str(hit.epochs_lost) for hit in hits if hit.trial is not None)),
    }


def restarts(server: Server, folder: Path, count: int, rng: random.Random) -> dict[str, Any]:
    """The database server stops hard and starts again, while a study runs."""
    url, done = server.url(), Round()
    launcher = launch(command(url))
    for _ in range(count):
        wait_for(lambda: launcher.poll() is not None or has_workers(url))
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
    done.problems += check(url, reference(folder))
    return {"restarts": len(done.hits), "problems": done.problems}


def lost_nodes(server: Server, folder: Path, count: int, rng: random.Random) -> dict[str, Any]:
    """A host dies with its launcher and its worker; another has to notice by the grace time alone."""
    os.environ[GRACE_VARIABLE] = str(GRACE_S)
    rounds = []
    for number in range(count):
        url, done = server.url(), Round()
        near = launch(command(url, 1))
        wait_for(partial(has_workers, url))
        script = 'hostname "$0" && exec "$@"'
        far = launch(["unshare", "--uts", "sh", "-c", script, f"far-{number}", *command(url, 1)])
        wait_for(lambda: any(held_by(url, pid) for pid in descendants(far.pid)))  # noqa: B023 - called at once
        time.sleep(rng.uniform(0.0, 2.0))
        wait_for(lambda: any(held_by(url, pid) for pid in descendants(far.pid)))  # noqa: B023 - called at once
        family = descendants(far.pid)
        worker = next((pid for pid in family if held_by(url, pid)), family[0])
        kill(worker, *family, far.pid)  # a worker that sees its launcher die would put its trial back
        far.communicate()
        trial = held_by(url, worker)
        if trial is not None:
            study = open_study(url, NAME)
            done.hits.append(Hit("node", trial, now(url), epochs_lost(study, trial)))
        while near.poll() is None:
            note_resumptions(url, done.hits)
            time.sleep(POLL_S)
        near.communicate()
        done.problems += check(url, reference(folder))
        rounds.append(done)
        print(f"node {number}: problems: {done.problems or 'none'}", flush=True)
    del os.environ[GRACE_VARIABLE]
    return {"grace_s": GRACE_S, **summary(rounds)}


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end:
            raise NasError("waited in vain")
        time.sleep(0.02)


def table(results: dict[str, Any]) -> str:
    """The measured table of the documentation."""
    rows = ["| disturbance | times | studies × trials | what was wrong afterwards | resumed after (median, max) |"]
    rows.append("|---|---|---|---|---|")
    names = {"sqlite": "`kill -9`, SQLite", "postgresql": "`kill -9`, PostgreSQL", "nodes": "a node lost, PostgreSQL"}
    for key, name in names.items():
        if (one := results.get(key)) is None:
            continue
        times = f"{one['kills']}" + (f" (launcher {one['of_launchers']})" if one["of_launchers"] else "")
        after = one["resumed_after_s"]
        delay = f"{median(after):.1f} s, {max(after):.1f} s" if after else ""
        delay += f", grace {one['grace_s']:g} s" if "grace_s" in one else ""
        studies = f"{one['studies']} × {TRIALS}"
        rows.append(f"| {name} | {times} | {studies} | {'; '.join(one['problems']) or 'nothing'} | {delay} |")
    if (one := results.get("restarts")) is not None:
        wrong = "; ".join(one["problems"]) or "nothing"
        rows.append(f"| PostgreSQL stopped hard and restarted | {one['restarts']} | 1 × {TRIALS} | {wrong} | |")
    lost = Counter[str]()
    for key in names:
        lost.update(results.get(key, {}).get("epochs_lost", {}))
    total = sum(lost.values())
    text = ", ".join(f"{count} of {total} trials lost {epochs}" for epochs, count in sorted(lost.items()))
    note = f"Whole epochs that had to be run again, besides the one that was running: {text}." if total else ""
    return "\n".join([*rows, "", note]).strip() + "\n"


@contextmanager
def study_file(folder: Path) -> Iterator[None]:
    """The study file, and checkpoints of this run alone."""
    path = folder / "crash.yaml"
    path.write_text(STUDY)
    os.environ |= {"CRASH_STUDY": str(path), "FUSION_NAS_CHECKPOINTS": str(folder / "checkpoints")}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    yield


def main() -> None:
    """Run what is wanted, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="on each database")
    parser.add_argument("--times", type=int, default=5, help="lost nodes, and restarts of the server")
    parser.add_argument("--only", choices=["sqlite", "postgresql", "nodes", "restarts"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the temporary server ends with us
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rng = random.Random(args.seed)
    wanted = [args.only] if args.only else ["sqlite", "postgresql", "nodes", "restarts"]
    with tempfile.TemporaryDirectory() as name, running() as server, study_file(Path(name)):
        folder, count = Path(name), iter(range(10_000))
        runs: dict[str, Callable[[], dict[str, Any]]] = {
            "sqlite": lambda: crashes(lambda: f"sqlite:///{folder / f'{next(count)}.db'}", folder, args.kills, rng),
            "postgresql": lambda: crashes(server.url, folder, args.kills, rng),
            "nodes": lambda: lost_nodes(server, folder, args.times, rng),
            "restarts": lambda: restarts(server, folder, args.times, rng),
        }
        for key in wanted:
            results[key] = runs[key]()
            print(key, json.dumps(results[key]), flush=True)
            if not args.no_write:
                write_atomically(RESULTS, json.dumps(results, indent=1) + "\n")
    text = table(results)
    print(text)
    if not args.no_write:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        write_atomically(PAGE, f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
