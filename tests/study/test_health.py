"""What a study stands on: stale trials, dead workers, files of no trial, clock, grace time."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa

from nas.errors import UserError
from nas.report.health import health_text
from nas.study import doctor
from nas.study.doctor import Health, examine, recover
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.store import tables
from nas.study.store.reader import Study
from nas.study.store.trials import Ledger
from nas.study.store.urls import DEFAULT_URL
from nas.study.store.workers import GRACE_VARIABLE, grace_s, join
from tests import warm

from .test_ledger import ELSEWHERE, EPOCH, plain_of

Storage = optuna.storages.RDBStorage
Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def own_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_NAS_CHECKPOINTS", str(tmp_path / "checkpoints"))


@pytest.fixture
def broken(stored: Study, storage: Storage, space: object) -> Study:
    """One trial done, one of a dead worker, one of a live worker, one of another program; and files of all kinds."""
    study = optuna.load_study(study_name=stored.name, storage=storage)
    done, stale, live, lone = (study.ask() for _ in range(4))
    for name, trial in (("gone", done), ("gone", stale), ("here", live)):
        ledger = Ledger(storage.engine, stored.study_id, name)
        if name == "here" or trial is done:
            join(storage.engine, stored.study_id, ledger.worker_id, "cpu")
        assert ledger.lease(trial._trial_id)
    plain = plain_of(space)  # type: ignore[arg-type]
    Ledger(storage.engine, stored.study_id, "gone").own(done._trial_id, plain, "plain")
    Ledger(storage.engine, stored.study_id, "gone").record_epoch(done._trial_id, 0, EPOCH)
    study.tell(done, 0.5)
    Ledger(storage.engine, stored.study_id, "gone").release(done._trial_id)
    with storage.engine.begin() as connection:
        gone = tables.workers.c.worker_id == "gone"
        connection.execute(
            sa.update(tables.workers).where(gone).values(machine=ELSEWHERE, heartbeat_at=time.time() - 1000)
        )
    assert [t.number for t in (done, stale, live, lone)] == [0, 1, 2, 3]
    folder = CheckpointFolder(stored).folder
    folder.mkdir(parents=True)
    for name in ("trial-0.ckpt", "trial-1.ckpt", "trial-2.ckpt", "trial-77.ckpt"):
        (folder / name).write_text("x")
    for name in (".trial-0.ckpt.abc", ".trial-2.ckpt.abc", "notes.txt"):
        (folder / name).write_text("x")
    return stored


def test_a_study_is_examined_and_mended(broken: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.study.doctor.SECOND_LOOK_S", 0.1)
    found = examine(broken)
    assert (found.dead_workers, found.stale_trials) == (("gone",), (1,))
    assert found.orphan_checkpoints == (".trial-0.ckpt.abc", "trial-77.ckpt")
    assert (found.schema, abs(found.clock_skew_s) < 5) == (tables.SCHEMA_VERSION, True)
    assert examine(broken).stale_trials == found.stale_trials  # looking changes nothing

    done = recover(broken)
    assert (done.put_back, done.removed_checkpoints, done.integrity) == (1, 2, "ok")
    after = examine(broken)
    assert (after.dead_workers, after.stale_trials, after.orphan_checkpoints) == ((), (), ())
    kept = {path.name for path in CheckpointFolder(broken).folder.iterdir()}
    assert kept == {"trial-0.ckpt", "trial-1.ckpt", "trial-2.ckpt", ".trial-2.ckpt.abc", "notes.txt"}


def look_again_soon() -> None:
    doctor.SECOND_LOOK_S = 0.1  # in the process of the command


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_commands_show_it_without_torch_optuna_or_numpy(broken: Study) -> None:
    code = (
        "import sys; from nas.cli import main; code = main(sys.argv[1:])\n"
        "slow = {'torch', 'lightning', 'timm', 'optuna', 'numpy'}\n"
        "print(sorted(slow.intersection(sys.modules)), code, file=sys.stderr)"
    )
    run = [sys.executable, "-c", code, "status", "s", "--storage", broken.url]
    done = subprocess.run([*run, "--json"], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[] 0"
    assert json.loads(done.stdout)["health"]["stale_trials"] == [1]
    text = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "1 stale trials, 1 dead workers, 2 orphan checkpoints; mend that with: nas recover s --storage" in text
    done = warm.run("recover", "s", "--storage", broken.url, "--json", before=look_again_soon)
    done.check_returncode()
    mended = json.loads(done.stdout)
    assert (mended["put_back"], mended["removed_checkpoints"], mended["integrity"]) == (1, 2, "ok")


def test_rows_of_no_trial_are_told(stored: Study, storage: Storage) -> None:
    with storage.engine.begin() as connection:
        row = {"trial_id": 999, "study_id": stored.study_id, "digest": "d", "crashes": 0}
        connection.execute(sa.insert(tables.trials).values(row))
    assert recover(stored).integrity == "nas_trials: 1 rows of no trial"


def test_what_is_worth_a_word() -> None:
    health = Health(
        schema=1, dead_workers=(), stale_trials=(), orphan_checkpoints=(), clock_skew_s=0.1, free_bytes=5 * 2**30
    )
    assert health_text(health, "s", DEFAULT_URL) == "schema 1 · 5.0 GiB free"
    late = Health(**{**health.to_dict(), "clock_skew_s": -61.0, "free_bytes": 2**29})
    assert (
        health_text(late, "s", DEFAULT_URL)
        == "schema 1 · 0.5 GiB free, too little · this clock is -61.0 s off the database's: set it"
    )


@pytest.mark.parametrize("text", ["soon", "0", "4.9", "-3", "nan", "inf"])
def test_a_grace_time_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(GRACE_VARIABLE, text)
    with pytest.raises(UserError, match=rf"FUSION_NAS_GRACE_S: expected seconds, at least 5, got '{text}'"):
        grace_s()


def test_the_grace_time_decides_who_is_dead(
    stored: Study, storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = optuna.load_study(study_name=stored.name, storage=storage).ask()
    ledger.lease(trial._trial_id)
    with storage.engine.begin() as connection:
        connection.execute(sa.update(tables.workers).values(machine=ELSEWHERE, heartbeat_at=time.time() - 60))
    assert examine(stored).dead_workers == ()
    monkeypatch.setenv(GRACE_VARIABLE, "30")
    assert examine(stored).dead_workers == ("w1",)
