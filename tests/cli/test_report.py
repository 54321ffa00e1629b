"""`nas report` writes one page."""

from collections.abc import Callable
from pathlib import Path

from tests.report.synthetic import synthetic

Nas = Callable[..., tuple[int, str, str]]


def test_report(nas: Nas, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    study = synthetic(url, 12)
    path = tmp_path / "out" / "mine.html"
    code, out, err = nas("report", "made", "--storage", url, "-o", path)
    assert (code, err) == (0, "")
    best = study.best()
    assert best is not None
    assert (
        out
        == f"{path}: The best of 9 complete trials scored {best.score:.4f}, " + out.partition(f"{best.score:.4f}, ")[2]
    )
    assert path.read_text().startswith("<!doctype html>")
    code, out, err = nas("report", "made", "--storage", url, "-o", tmp_path / "mine.pdf")
    assert (code, out) == (2, "")
    assert "expected a file name that ends in .html" in err
    assert "no study named 'other'; studies: made" in nas("report", "other", "--storage", url)[2]
