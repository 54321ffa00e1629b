"""The page in a real browser: no error, no request, tables that sort and filter, text that can be read."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_core_python.base import AXE_SCRIPT
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from nas.report.page import read_report, render
from nas.study.store.reader import Study

from .synthetic import SEVERAL, kind_of_number, synthetic
from .test_page import EVIL

DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    DRIVER is None and "FUSION_NAS_BROWSER" not in os.environ, reason="needs chromium and chromedriver"
)
PLOTS = {"study": 4, "several": 5}
AXE_RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa"]}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1280,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with Chrome(options=options, service=Service(DRIVER)) as driver:
        yield driver


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One objective, and several; with trials of every kind, and no more: each cell is looked at."""
    folder = tmp_path_factory.mktemp("pages")
    for name, keys in (("study", {}), ("several", SEVERAL)):
        study = synthetic(f"sqlite:///{folder / name}.db", 30, name=name, **keys)
        (folder / f"{name}.html").write_text(render(read_report(study)))
    return {name: folder / f"{name}.html" for name in PLOTS}


@pytest.fixture(scope="module")
def page(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a hundred trials."""
    path = tmp_path_factory.mktemp("page") / "study.html"
    path.write_text(render(read_report(study)))
    return path


def show(browser: Chrome, page: Path, *, scheme: str = "light", width: int = 1280) -> None:
    """Open a page; fail on anything that the console says and on any request but that for the page itself."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked == [page.as_uri()]


def shown_rows(browser: Chrome) -> list[list[str]]:
    """The texts of the cells of all visible trials."""
    rows: list[list[str]] = browser.execute_script(
        "return [...document.querySelectorAll('#table tbody tr:not([hidden])')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return rows


def head(browser: Chrome, name: str) -> WebElement:
    return browser.find_element(By.XPATH, f"//table[@id='table']//th/button[text()='{name}']")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", PLOTS)
def test_plots_layout_and_contrast(
    browser: Chrome, pages: dict[str, Path], which: str, scheme: str, width: int
) -> None:
    show(browser, pages[which], scheme=scheme, width=width)
    assert len(browser.find_elements(By.CSS_SELECTOR, ".plot .main-svg:first-child")) == PLOTS[which]
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    browser.execute_script(AXE_SCRIPT)
    found = browser.execute_async_script(
        f"const done = arguments[0]; axe.run(document, {json.dumps(AXE_RULES)}).then(done)"
    )
    faults = [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found["violations"]]
    assert faults == []
    checked = {rule["id"] for rule in found["passes"]}
    assert "color-contrast" in checked


def test_the_theme_button(browser: Chrome, page: Path) -> None:
    show(browser, page)

    def colours() -> tuple[str, str]:
        plot = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
        return tuple(browser.execute_script(f"return [getComputedStyle(document.body).color, {plot}]"))

    light = colours()
    browser.find_element(By.ID, "theme").click()
    dark = colours()
    assert light[0] == light[1]
    assert dark[0] == dark[1] != light[0]
    browser.find_element(By.ID, "theme").click()
    assert colours() == light


def test_sorting(browser: Chrome, page: Path) -> None:
    show(browser, page)
    for name, column in (("Score", 2), ("MACs", 5)):
        button = head(browser, name)
        browser.execute_script("arguments[0].click()", button)
        values = browser.execute_script(
            "return [...document.querySelectorAll('#table tbody tr')].map(row => row.cells[arguments[0]])"
            ".map(cell => cell.dataset.value ?? cell.textContent).filter(text => text !== '').map(Number)",
            column,
        )
        assert values == sorted(values)
        assert len(set(values)) > 10
        assert shown_rows(browser)[-1][column] == ""  # what has no score stands last
        browser.execute_script("arguments[0].click()", button)
        assert shown_rows(browser)[-1][column] == ""
        assert browser.find_element(By.CSS_SELECTOR, "#table th[aria-sort]").get_attribute("aria-sort") == "descending"
    browser.execute_script("arguments[0].click()", head(browser, "#"))
    assert [int(row[0]) for row in shown_rows(browser)] == list(range(100))


def test_filtering(browser: Chrome, page: Path) -> None:
    show(browser, page)
    Select(browser.find_element(By.ID, "kind")).select_by_visible_text("unstable")
    expected = [n for n in range(100) if kind_of_number(n) == "unstable"]
    assert [int(row[0]) for row in shown_rows(browser)] == expected
    assert browser.find_element(By.ID, "shown").text == f"{len(expected)} of 100 trials"
    Select(browser.find_element(By.ID, "kind")).select_by_visible_text("all")
    browser.find_element(By.ID, "words").send_keys("P1 cbam-every")
    assert [row[-1] for row in shown_rows(browser)] == ["cbam-everywhere"]


def test_the_command_can_be_copied(browser: Chrome, page: Path) -> None:
    show(browser, page)
    button = browser.find_element(By.CSS_SELECTOR, "[data-copy]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    browser.execute_async_script("setTimeout(arguments[0], 100)")
    assert button.text in ("Copied", "Selected")


def test_print(browser: Chrome, page: Path) -> None:
    """Dark readers print on white, all four stages side by side, without what can only be clicked."""
    show(browser, page, scheme="dark", width=800)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", **dark})
    try:
        shown = browser.execute_script(
            "const style = (name) => getComputedStyle(document.querySelector(name));"
            "return [style('body').backgroundColor, style('nav').display,"
            "new Set([...document.querySelectorAll('.stages li')].map(li => li.offsetTop)).size]"
        )
        pdf = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", **dark})
    assert shown == ["rgb(255, 255, 255)", "none", 1]
    assert pdf.startswith("JVBERi0")  # %PDF-


def test_markup_in_names_is_shown_as_text(browser: Chrome, tmp_path: Path) -> None:
    study = synthetic(f"sqlite:///{tmp_path / 'nas.db'}", 12, name=f"n{EVIL}", source=f"folder:/d{EVIL}")
    path = tmp_path / "report.html"
    path.write_text(render(read_report(study)))
    show(browser, path)
    assert browser.title.startswith("n</script>")
    assert browser.find_element(By.TAG_NAME, "h1").text == f"n{EVIL}"
    assert f"folder:/d{EVIL}" in browser.find_element(By.ID, "provenance").text
