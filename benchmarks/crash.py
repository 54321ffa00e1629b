"""Kills workers and launchers at random moments, and compares what comes out with undisturbed studies.

    python benchmarks/crash.py                      # 50 kills on SQLite, 50 on PostgreSQL, 5 lost nodes, 5 restarts
    python benchmarks/crash.py --only sqlite --kills 5 --no-write
    python benchmarks/crash.py --of calibration --only sqlite --kills 5 --no-write

A round is one study of two workers that really train, or with ``--of`` its confirmation or its calibration. At random
moments a random worker, sometimes the launcher, gets `kill -9`; the same command goes on. A trial that was hit is not
hit again before its next epoch: a trial whose workers die again and again within an epoch is failed by design, as the
one that kills them. Rounds follow each other until there were enough kills, each on a new database; the same is run
once without any kill. A lost node is a launcher on a host name of its own (a UTS namespace, which needs root) that
dies with its worker: only the grace time tells. Everything stays on this machine; PostgreSQL is a temporary server.
Writes benchmarks/results/crash.json and the table of docs/distributed.md.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.crashes.kills import crashes  # noqa: E402
from benchmarks.crashes.outages import lost_nodes, restarts  # noqa: E402
from benchmarks.crashes.subjects import STUDY, STUDY_VARIABLE, SUBJECTS  # noqa: E402
from nas.documents import write_atomically  # noqa: E402
from tests.postgres import running  # noqa: E402

RESULTS = HERE / "results" / "crash.json"
PAGE = HERE.parent / "docs" / "distributed.md"
BEGIN, END = "<!-- crash: begin -->", "<!-- crash: end -->"


def key_of(of: str, database: str) -> str:
    """Under which the results of a subject on a database are kept."""
    return database if of == "search" else f"{of}-{database}"


def table(results: dict[str, Any]) -> str:
    """The measured table of the documentation."""
    rows = ["| disturbance | times | studies × trials | what was wrong afterwards | resumed after (median, max) |"]
    rows.append("|---|---|---|---|---|")
    databases = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    names = {
        key_of(of, database): f"`kill -9`, {name}" if of == "search" else f"`kill -9` during a {of}, {name}"
        for of in SUBJECTS
        for database, name in databases.items()
    }
    names["nodes"] = "a node lost, PostgreSQL"
    for key, name in names.items():
        if (one := results.get(key)) is None:
            continue
        times = f"{one['kills']}" + (f" (launcher {one['of_launchers']})" if one["of_launchers"] else "")
        after = one["resumed_after_s"]
        delay = f"{median(after):.1f} s, {max(after):.1f} s" if after else ""
        delay += f", grace {one['grace_s']:g} s" if "grace_s" in one else ""
        studies = f"{one['studies']} × {one['trials'] // one['studies']}"
        rows.append(f"| {name} | {times} | {studies} | {'; '.join(one['problems']) or 'nothing'} | {delay} |")
    if (one := results.get("restarts")) is not None:
        wrong = "; ".join(one["problems"]) or "nothing"
        rows.append(
            f"| PostgreSQL stopped hard and restarted | {one['restarts']} | 1 × {one.get('trials', 30)} | {wrong} | |"
        )
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
    os.environ |= {STUDY_VARIABLE: str(path), "FUSION_NAS_CHECKPOINTS": str(folder / "checkpoints")}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    yield


def main() -> None:
    """Run what is wanted, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="on each database")
    parser.add_argument("--times", type=int, default=5, help="lost nodes, and restarts of the server")
    parser.add_argument("--of", choices=tuple(SUBJECTS), default="search", help="what is killed")
    parser.add_argument("--only", choices=["sqlite", "postgresql", "nodes", "restarts"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the temporary server ends with us
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rng = random.Random(args.seed)
    subject = SUBJECTS[args.of]
    every = ["sqlite", "postgresql", *(["nodes", "restarts"] if args.of == "search" else [])]
    wanted = [args.only] if args.only else every
    with tempfile.TemporaryDirectory() as root, running() as server, study_file(Path(root)):
        folder, count = Path(root), iter(range(10_000))

        def new_file() -> str:
            return f"sqlite:///{folder / f'{next(count)}.db'}"

        runs: dict[str, Callable[[], dict[str, Any]]] = {
            "sqlite": lambda: crashes(subject, new_file, folder, args.kills, rng),
            "postgresql": lambda: crashes(subject, server.url, folder, args.kills, rng),
            "nodes": lambda: lost_nodes(server, folder, args.times, rng),
            "restarts": lambda: restarts(server, folder, args.times, rng),
        }
        for name in wanted:
            key = key_of(args.of, name) if name in ("sqlite", "postgresql") else name
            results[key] = runs[name]()
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
