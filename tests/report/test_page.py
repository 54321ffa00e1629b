"""The page as text: self-contained, escaped, small enough."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nas.report.page import Axis, compact, read_report, render
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from nas.study.store.reader import Study
from tests.study.conftest import SUMMARY

from .synthetic import SEVERAL, synthetic

SECTIONS = ["answer", "search", "matters", "broke", "trials", "provenance"]
MAX_BYTES = 8 * 2**20


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data


@pytest.fixture(scope="module")
def html(study: Study) -> str:
    return render(read_report(study))


def test_sections_in_order(html: str) -> None:
    assert [attrs["id"] for tag, attrs in Page(html).tags if tag == "section"] == SECTIONS


def test_shows_the_answer_and_every_trial(html: str, study: Study) -> None:
    page = Page(html)
    best = study.best()
    assert best is not None
    assert best.score is not None
    assert f"scored {best.score:.4f}" in page.text
    assert f"Trial {best.number}, block by block" in page.text
    assert "nas export made --storage sqlite:////" in page.text
    rows = [attrs for tag, attrs in page.tags if tag == "tr" and "data-kind" in attrs]
    assert len(rows) == 100
    drawings = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    assert [label.split(":")[0] for label in drawings if label] == [f"Stage {n}" for n in (1, 2, 3, 4)]
    assert study.data["fingerprint"] in page.text


def test_a_front_stands_in_the_search(several: Study, html: str) -> None:
    page = Page(render(read_report(several)))
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == SECTIONS
    front = several.front()
    assert f"{len(front)} networks that none beats in every objective (val_accuracy ↑" in page.text
    assert "--trial front -o front" in page.text
    plots = [attrs["data-figure"] for _, attrs in page.tags if "data-figure" in attrs]
    assert plots == ["front-latency_ms", "front-params", "history", "curves", "traces"]
    regions = [attrs["aria-label"] for _, attrs in page.tags if attrs.get("role") == "region"]
    assert regions[1:4] == ["Members of the front beside the plain network", "Constraints", "Rungs"]
    assert "latency_ms <= 1.5 * plain" in page.text
    assert page.text.count(" · front") + page.text.count("front</td>") >= 1
    kinds = [attrs["data-kind"] for tag, attrs in page.tags if tag == "tr" and "data-kind" in attrs]
    assert kinds.count("infeasible") == 4
    assert not {"Constraints", "Rungs"} & {a.get("aria-label") for _, a in Page(html).tags}
    assert "latency_ms" not in html[: html.index('<script type="application/json"')]


@pytest.mark.parametrize(
    "objectives",
    [{"val_macro_f1": "maximize"}, {"val_loss": "minimize"}, {"params": "minimize", "val_loss": "minimize"}],
)
def test_other_objectives(tmp_path: Path, objectives: dict[str, str]) -> None:
    """Of the first an older version recorded nothing: there is a page all the same."""
    study = synthetic(f"sqlite:///{tmp_path / 'nas.db'}", 30, objectives=objectives)
    report = read_report(study)
    html = render(report)
    assert ("history" in report.figures) == ("val_loss" in objectives)
    assert "NaN" not in html[html.index('id="figures"') :].split("</script>")[0]


def test_needs_no_network(html: str) -> None:
    for tag, attrs in Page(html).tags:
        assert tag not in ("link", "img", "iframe", "object")
        assert not {"src", "srcset", "data", "action"} & attrs.keys()
        assert (attrs.get("href") or "#").startswith("#")
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "default-src 'none'" in html


def test_a_thousand_trials_stay_small(tmp_path: Path) -> None:
    page = render(read_report(synthetic(f"sqlite:///{tmp_path / 'nas.db'}", 1000, **SEVERAL)))
    assert len(page.encode()) < MAX_BYTES


EVIL = "</script><script>document.title = 'stolen'</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("keys", [{}, SEVERAL], ids=["one", "several"])
def test_user_text_is_text(tmp_path: Path, keys: dict[str, Any]) -> None:
    study = synthetic(f"sqlite:///{tmp_path / 'nas.db'}", 12, name=f"n{EVIL}", source=f"folder:/d{EVIL}", **keys)
    html = render(read_report(study))
    page = Page(html)
    assert f"n{EVIL}" in page.text
    assert f"folder:/d{EVIL}" in page.text
    assert not any(tag == "img" for tag, _ in page.tags)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3
    assert "<script>document" not in html


def test_a_study_that_has_not_begun(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    study = create_study(StudyConfig(name="new", space="patterns"), "", url, lambda _: SUMMARY)
    html = render(read_report(study))
    assert "No trial is complete yet." in Page(html).text
    embedded = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html)
    assert embedded
    assert json.loads(embedded[1]) == {}


def test_strips_lie_within_their_axis() -> None:
    axis = Axis([0.90, 0.92, 0.94])
    assert axis.position(0.92) == 50
    strip = axis.strip(0.92, 0.90, 0.94)
    assert strip.left is not None
    assert strip.width is not None
    assert 0 < strip.left < strip.at < strip.left + strip.width < 100
    assert axis.strip(0.92, None, None).width is None
    assert Axis([0.5, 0.5]).position(0.5) == 50
    assert Axis([]).position(0.5) == 50


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0"),
        (999, "999"),
        (308_542, "309 k"),
        (994_123, "994 k"),
        (11_689_512, "11.7 M"),
        (4.1e9, "4.1 G"),
    ],
)
def test_compact(count: float | None, text: str) -> None:
    assert compact(count) == text
