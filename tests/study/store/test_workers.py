"""Who is alive: known by machine, namespace, process and its start; nobody is judged by who was silent himself."""

import os
import subprocess
from dataclasses import replace

import optuna
import pytest
import sqlalchemy as sa

from nas.machine import INITIAL_NAMESPACE, Machine, process_lives, process_start
from nas.study.store import tables
from nas.study.store.clock import clock
from nas.study.store.leases import sweep
from nas.study.store.reader import Study
from nas.study.store.trials import Ledger
from nas.study.store.workers import GRACE_VARIABLE, Watch, dead_workers, join

HERE = Machine.this()
ELSEWHERE = replace(HERE, boot="another", installation="")
GRACE = 60.0


@pytest.fixture(autouse=True)
def grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GRACE_VARIABLE, str(GRACE))


@pytest.fixture
def worker(storage: optuna.storages.RDBStorage, stored: Study) -> Ledger:
    """A worker of this very process that holds a trial."""
    worker = Ledger(storage.engine, stored.study_id, "w")
    join(storage.engine, stored.study_id, "w", "cpu")
    worker.take_waiting()
    return worker


def change(worker: Ledger, **values: object) -> None:
    with worker._engine.begin() as connection:
        connection.execute(sa.update(tables.workers).values(values))


def dead(worker: Ledger, watch: Watch | None = None) -> list[str]:
    return [found.worker_id for found in dead_workers(worker._engine, worker.study_id, watch or Watch())]


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_process_that_has_ended_is_dead_at_once(worker: Ledger) -> None:
    assert dead(worker) == []
    change(worker, pid=ended_process())
    assert dead(worker) == ["w"]


def test_a_number_that_another_process_has_now(worker: Ledger) -> None:
    change(worker, process_start=(process_start(os.getpid()) or 0) - 1)
    assert dead(worker) == ["w"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(HERE, boot="another machine with the same name", installation=""),
        replace(HERE, namespace="pid:[1]", installation=""),  # a container beside this one
    ],
)
def test_processes_of_others_are_not_looked_for_here(worker: Ledger, elsewhere: Machine) -> None:
    """Two containers that are named alike declared each other dead."""
    change(worker, machine=str(elsewhere), pid=ended_process())
    assert dead(worker) == []


def test_what_ran_before_this_machine_booted_anew_is_dead(worker: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Machine("boot 2", INITIAL_NAMESPACE, "machine-id/host")
    monkeypatch.setattr(Machine, "this", lambda: now)
    change(worker, machine=str(replace(now, boot="boot 1")))
    assert dead(worker) == ["w"]
    change(worker, machine=str(replace(now, boot="boot 1", installation="")))  # a container: its name says nothing
    assert dead(worker) == []


def test_after_a_break_the_first_one_back_does_not_sweep_the_others(worker: Ledger) -> None:
    """A laptop slept for an hour, or the database was away: everybody has been silent."""
    with worker._engine.connect() as connection:
        now = clock(connection)
    change(worker, machine=str(ELSEWHERE), heartbeat_at=now - 3600)
    watch = Watch(since=now - 7200, looked_at=now - 3600)
    assert dead(worker, watch) == []
    watch.since, watch.looked_at = now - 2 * GRACE, now - 1  # it has been looking since, and heard nothing
    assert dead(worker, watch) == ["w"]


def test_who_has_only_just_begun_to_look_waits(worker: Ledger) -> None:
    with worker._engine.connect() as connection:
        change(worker, machine=str(ELSEWHERE), heartbeat_at=clock(connection) - 3600)
    assert sweep(worker._engine, worker.study_id, Watch()) == 0
    assert sweep(worker._engine, worker.study_id, None) == 1  # a person asks: by the last signs of life


def test_names_of_machines_come_back() -> None:
    assert Machine.parse(str(HERE)) == HERE
    assert HERE.sees(HERE)
    assert not HERE.was(HERE)


def test_a_process_is_known_by_its_start() -> None:
    start = process_start(os.getpid())
    assert start is not None
    assert process_lives(os.getpid(), start)
    assert not process_lives(os.getpid(), start + 1)
    assert process_start(ended_process()) is None
