"""Who measures is alone; who trains gives way between two batches."""

import threading
import time
from contextlib import ExitStack

import pytest

from nas.training.turns import Turns


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.temporary.temporary_root", lambda: tmp_path)


def test_nobody_trains_while_one_measures():
    log, stop = [], threading.Event()

    def train(name):
        turns = Turns("cpu")
        with turns.together() as give_way:
            while not stop.is_set():
                give_way()
                log.append((name, "begins"))
                time.sleep(0.002)
                log.append((name, "ends"))

    workers = [threading.Thread(target=train, args=(name,)) for name in "ab"]
    for worker in workers:
        worker.start()
    measuring = Turns("cpu")
    while len(log) < 20:
        time.sleep(0.01)
    for _ in range(3):
        with measuring.alone():
            before = list(log)
            time.sleep(0.03)
            assert log == before
        assert [entry[1] for entry in before].count("begins") == [entry[1] for entry in before].count("ends")
        time.sleep(0.02)
    stop.set()
    for worker in workers:
        worker.join()
    assert len(log) > len(before), "training went on afterwards"


def test_devices_are_apart():
    with ExitStack() as stack:
        stack.enter_context(Turns("cpu").alone())
        stack.enter_context(Turns("cuda:0").alone())
        stack.enter_context(Turns("cuda:1").together())
