"""Make the pictures of README and documentation from a real run of the quickstart (needs chromium and chromedriver).

uv run --group dev python docs/pictures.py
"""

import base64
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.terminal_theme import MONOKAI
from rich.text import Text
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from nas.errors import NasError
from nas.report.live import screen
from nas.report.page import write_report
from nas.report.summary import Summary, summarise
from nas.report.summary_text import summary_text
from nas.study.store.reader import Study, open_study

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
COMMAND = "nas search studies/quickstart.yaml"
NAME = "digits-quickstart"
WIDTH, HEIGHT = 88, 17
"""Of the terminal, in characters."""
SECONDS, HOLD = 10.0, 3.0
"""Of the recording, and how much of it shows the end."""
FRAMES = 24
PAGE, SCALE = (1280, 1440), 0.75

# Rich's own format names a web font, which a picture in a README may not load.
FORMAT = """<g class="frame" id="{unique_id}"><style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
font-size: {char_height}px; line-height: {line_height}px; white-space: pre; }}
.{unique_id}-title {{ font-size: 18px; font-family: system-ui, sans-serif; }}
{styles}</style><defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g><desc>{width} {height}</desc></g>
"""


def main() -> int:
    """Run the quickstart in an empty folder; write the recording of the terminal and the picture of the report."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/nas.db"
        seen, study = watch(url)
        (IMAGES / "terminal.svg").write_text(recording(seen, study), encoding="utf-8")
        page = Path(folder) / "report.html"
        write_report(study, page)
        (IMAGES / "report.png").write_bytes(screenshot(page))
    return 0


def watch(url: str) -> tuple[list[Summary], Study]:
    """Search, and look at the study whenever something has changed."""
    command = [sys.executable, "-m", "nas", *COMMAND.split()[1:], "--storage", url]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    seen: list[Summary] = []
    while process.poll() is None:
        try:
            summary = summarise(open_study(url, NAME))
        except NasError:  # the study is not stored yet
            summary = None
        if summary is not None and summary.workers and (not seen or progress(summary) != progress(seen[-1])):
            seen.append(summary)
        time.sleep(0.2)
    if process.returncode != 0:
        raise SystemExit(f"{COMMAND} ended with {process.returncode}")
    return [summary for summary in seen if not summary.done], open_study(url, NAME)


def progress(summary: Summary) -> int:
    """Grows with every epoch and trial."""
    return 1000 * summary.ended + sum(len(record.epochs) for record in summary.running)


def recording(seen: Sequence[Summary], study: Study) -> str:
    """An SVG that shows the run in ten seconds; without animation, its end."""
    shown = [seen[round(i * (len(seen) - 1) / (FRAMES - 1))] for i in range(FRAMES)]
    screens = [frame(i, screen([summary], HEIGHT - 1)) for i, summary in enumerate(shown)]
    screens.append(frame(FRAMES, Text(f"\n{summary_text(summarise(study))}")))
    size = re.search(r"<desc>([\d.]+) ([\d.]+)</desc>", screens[0])
    if size is None:
        raise RuntimeError("rich's format of an SVG has changed")
    step = 100 * (1 - HOLD / SECONDS) / FRAMES
    rules = [f".frame {{ visibility: hidden; animation: {SECONDS}s step-end infinite; }}"]
    for i in range(FRAMES):
        rules.append(f"#f{i} {{ animation-name: k{i}; }}")
        hidden = f"0% {{ visibility: hidden; }} {i * step:.2f}% {{ visibility: visible; }}"
        rules.append(f"@keyframes k{i} {{ {hidden} {(i + 1) * step:.2f}% {{ visibility: hidden; }} }}")
    rules.append(f"#f{FRAMES} {{ visibility: visible; animation-name: end; }}")
    rules.append(f"@keyframes end {{ 0% {{ visibility: hidden; }} {FRAMES * step:.2f}% {{ visibility: visible; }} }}")
    rules.append("@media (prefers-reduced-motion: reduce) { .frame { animation: none; } }")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[1]} {size[2]}">'
    title = (
        "<title>The live view of nas search: progress, the best network beside plain, curves of running trials</title>"
    )
    body = re.sub(r"<desc>.*?</desc>", "", "".join(screens))
    return f"{head}{title}<style>{' '.join(rules)}</style>\n{body}</svg>\n"


def frame(number: int, content: Group | Text) -> str:
    """One screen of the terminal as a part of an SVG."""
    out = io.StringIO()
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=out, force_terminal=True)
    console.print(f"$ {COMMAND}")
    console.print(content)
    console.print("\n" * (HEIGHT - out.getvalue().count("\n") - 1))
    return console.export_svg(title="fusion-nas", theme=MONOKAI, code_format=FORMAT, unique_id=f"f{number}")


def screenshot(page: Path) -> bytes:
    """The first screen of a page as PNG."""
    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--force-color-profile=srgb"):
        options.add_argument(argument)
    with Chrome(options=options, service=Service(shutil.which("chromedriver"))) as browser:
        width, height = PAGE
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(page.as_uri())
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": SCALE}
        return base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip})["data"])


if __name__ == "__main__":
    sys.exit(main())
