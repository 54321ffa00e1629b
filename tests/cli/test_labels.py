"""What `nas search` says, once, of labels that mean nothing."""

from collections.abc import Callable
from pathlib import Path

import nas as package
from nas.report.page import provenance

from .conftest import write_study

Nas = Callable[..., tuple[int, str, str]]

GIVEN = """
import numpy as np
from sklearn.datasets import load_digits

def give():
    digits = load_digits()
    return digits.images[:600].astype(np.uint8), np.random.default_rng(0).permutation(digits.target[:600])

def sound():
    digits = load_digits()
    return digits.images[:600].astype(np.uint8), digits.target[:600]
"""
SAID = "labels agree with those of their nearest neighbours no more often than by chance"


def searched(nas: Nas, folder: Path, function: str) -> tuple[str, dict[str, str]]:
    """Standard error, and the report's provenance."""
    (folder / "mine.py").write_text(GIVEN)
    data = {"source": f"python:mine.py:{function}"}
    file = write_study(folder, data=data, trials=1, landmarks=["plain"])
    url = f"sqlite:///{folder}/nas.db"
    code, _, err = nas("search", file, "--storage", url)
    assert code == 0, err
    again = nas("search", file, "--storage", url)[2]
    assert SAID not in again
    study = package.open_study(url, "tiny")
    return err, dict(provenance(study, study.best()))


def test_a_search_with_shuffled_labels_is_warned_and_goes_on(nas: Nas, tmp_path: Path) -> None:
    err, told = searched(nas, tmp_path, "give")
    (line,) = [line for line in err.splitlines() if SAID in line]
    assert "check data.source" in line
    assert told["Labels"] in line


def test_a_search_with_sound_labels_is_not(nas: Nas, tmp_path: Path) -> None:
    err, told = searched(nas, tmp_path, "sound")
    assert SAID not in err
    assert told["Labels"].startswith("agree with 0.9")
