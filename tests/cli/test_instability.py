"""`nas instability`, and the reasons of broken trials in the other views."""

import json
import subprocess
import sys

import pytest

from tests.cli.conftest import write_study
from tests.report.synthetic import synthetic


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    synthetic(url, 40)
    return url


def test_the_table_counts_what_broke(nas, url):
    code, out, err = nas("instability", "made", "--storage", url)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "study made: 4 of 38 trials were unstable"
    assert lines[1].split()[:5] == ["stage", "pattern", "attention", "trials", "unstable"]
    assert any("loss-spike" in line for line in lines[2:])


def test_json_adds_up_in_every_stage(nas, url):
    code, out, _ = nas("instability", "made", "--storage", url, "--json")
    found = json.loads(out)
    assert (code, found["num_trials"], found["num_unstable"]) == (0, 38, 4)
    for stage in (1, 2, 3, 4):
        rows = [row for row in found["rows"] if row["stage"] == stage]
        assert sum(row["num_trials"] for row in rows) == 38
        assert sum(row["num_unstable"] for row in rows) == sum(sum(row["reasons"].values()) for row in rows) == 4
    broken = [row for row in found["rows"] if row["num_unstable"]]
    assert all(
        row["median_step"] == 29 and row["low"] < row["num_unstable"] / row["num_trials"] <= row["high"] + 1e-9
        for row in broken
    )


def test_an_unknown_study_is_named(nas, url):
    code, _, err = nas("instability", "other", "--storage", url)
    assert code == 2
    assert "no study named 'other'; studies: made" in err


def test_it_never_loads_torch(url):
    call = f"main(['instability', 'made', '--storage', {url!r}])"
    code = f"import sys; from nas.cli import main; {call}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_a_study_at_a_wild_learning_rate_says_why_its_trials_ended(nas, tmp_path, monkeypatch):
    monkeypatch.setenv("FUSION_NAS_CACHE", str(tmp_path / "cache"))
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    study = write_study(
        tmp_path,
        space="full",
        data={"source": "cluttered-digits", "num_train": 128},
        training={"epochs": 6, "batch_size": 16, "learning_rate": 30.0},
        trials=2,
        landmarks=["plain"],
    )
    assert nas("search", study, "--storage", url, "--devices", "cpu")[0] == 1  # no trial is complete
    found = json.loads(nas("trials", "tiny", "--storage", url, "--json")[1])
    broken = [trial for trial in found if trial["state"] == "pruned"]
    assert broken, "at 300 × the usual rate"
    for trial in broken:
        event = trial["events"][-1]
        assert trial["reason"] == event["signal"]
        assert event["message"].startswith(f"step {event['step']}")
        *_, seen, last = event["trace"]
        assert event["step"] in (seen["step"], last["step"]), "of a probation the last is the epoch that ended it"
        assert trial["epochs"] < 6
    reasons = json.loads(nas("status", "tiny", "--storage", url, "--json")[1])["reasons"]
    assert sum(reasons.values()) == len(broken)
    assert json.loads(nas("instability", "tiny", "--storage", url, "--json")[1])["num_unstable"] == len(broken)
