"""Every command and every Python example of the documentation runs, page by page, as a reader would type them.

Commands and their workers run in this process, so that torch is imported once. A block that cannot run here has
a comment above it, ``<!-- not run: WHY -->``, with one of the reasons below.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from nas.cli import main
from nas.estimate import ranking
from nas.study.confirm.train import TestedTraining, confirm_networks
from nas.study.launch.engines.local import LocalWorkers
from nas.study.run.stop import StopFlag
from nas.study.run.training import Training
from nas.study.run.worker import Worker
from nas.study.store.reader import open_study
from nas.study.store.trials import new_worker_id
from tests.cli.test_init import add_unusual, write_images

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "docs" / "quickstart.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = {
    "installs packages",
    "takes hours",
    "needs a cluster",
    "needs a database server",
    "needs a GPU",
    "needs the images",
}
FEW = ["--set=training.epochs=1", "--set=data.num_train=128", "--set=landmarks=[plain, se-everywhere]"]
SMALL = {
    "search studies/quickstart.yaml": ["--trials=13", "--set=estimate=full", *FEW],
    "search studies/cued.yaml": ["--trials=3", *FEW],
    "search studies/cluttered.yaml": ["--trials=2", "--workers=1", *FEW],
    "search studies/edge.yaml": ["--trials=3", "--workers=1", *FEW, "--set=training.epochs=2"],
    "search": ["--trials=2", "--workers=1", "--set=training.epochs=1"],
    "confirm": ["--top=1", "--seeds=2", "--workers=1"],
    "resume": ["--trials=14", "--workers=1"],
    "bench samplers": ["--replays=2", "--trainings=2"],
}
"""What is added to a command so that it takes seconds; the longest beginning that fits counts."""
BLOCK = re.compile(r"^(?:<!-- not run: (?P<why>.*?) -->\n)?```(?P<language>sh|python)\n(?P<code>.*?)^```", re.M | re.S)


def blocks(page: Path) -> list[tuple[str | None, str, str]]:
    """Why it is not run (None: it is), language and code of each example of a page."""
    return [(m["why"], m["language"], m["code"]) for m in BLOCK.finditer(page.read_text(encoding="utf-8"))]


RUN = [page for page in PAGES if page != QUICKSTART and any(why is None for why, *_ in blocks(page))]


def arguments(command: str) -> list[str]:
    """A command of the documentation as arguments of `nas`, with a small budget."""
    name, *words = shlex.split(command, comments=True)
    assert name == "nas", f"{command}: only nas can be run; say above the block why it is not run"
    assert not {"|", ">", ">>", "&", ";"} & set(words), f"{command}: no shell runs here"
    text = " ".join(words)
    longest = max((start for start in SMALL if text.startswith(start)), default=None)
    return [*words, *(SMALL[longest] if longest else [])]


def run(page: Path) -> None:
    """All examples of a page in order, in the working folder."""
    names: dict[str, object] = {}
    for why, language, code in blocks(page):
        if why is not None:
            continue
        if language == "python":
            exec(compile(code, page.name, "exec"), names)
            continue
        for line in code.splitlines():
            for command in filter(None, (part.strip() for part in line.split("#")[0].split("&&"))):
                assert main(arguments(command)) == 0, f"{page.name}: {command}"


class WorkersHere(LocalWorkers):
    """Does the work of all worker processes at once."""

    def __enter__(self) -> "WorkersHere":
        study = open_study(self.url, self.name)
        if study.confirms is not None:
            training = TestedTraining(study, device="cpu", threads=1)
            confirm_networks(study, training, stop=StopFlag(), worker_id=new_worker_id())
            return self
        Worker(study, Training(study, device="cpu", threads=1), stop=StopFlag()).run()
        return self


def prepare(folder: Path) -> None:
    """What the examples take for granted: the shipped studies, and a folder of images."""
    shutil.copytree(ROOT / "studies", folder / "studies", ignore=shutil.ignore_patterns("*.db*"))
    add_unusual(write_images(folder / "flowers", {"daisy": 24, "rose": 24, "tulip": 24}) / "rose")


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Workers and their work in this process, and no more resamples of a table than show that there are some."""
    patch.setattr("nas.study.launch.engines.local.LocalWorkers", WorkersHere)
    patch.setitem(ranking.bootstrapped.__kwdefaults__, "resamples", 100)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the quickstart was run: the other pages go on from its study."""
    folder = tmp_path_factory.mktemp("quickstart")
    prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        patch.chdir(folder)
        run(QUICKSTART)
    return folder


@pytest.mark.usefixtures("forked_verification")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_every_example_runs(page: Path, quickstart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)
    for kept in ("studies", "flowers"):  # what commands wrote there is in the way of those of other pages
        shutil.copytree(quickstart / kept, tmp_path / kept)
    monkeypatch.chdir(tmp_path)
    run(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_not_run_has_a_known_reason(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {why for why, *_ in blocks(page) if why} <= NOT_RUN
    assert len(re.findall("^<!-- not run", text, re.M)) == sum(why is not None for why, *_ in blocks(page)), (
        "a comment above no block"
    )
    fences = set(re.findall(r"^```(\S*)$", text, re.M)) - {""}
    assert fences <= {"sh", "python", "yaml", "text"}, "sh and python are run, yaml is read, text is neither"


def test_a_mistake_in_a_page_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    for code, error in (
        ("nas spaces --nonsense", "spaces --nonsense"),
        ("rm -r x", "only nas"),
        ("nas spaces > x", "shell"),
    ):
        page.write_text(f"```sh\n{code}\n```\n")
        with pytest.raises(AssertionError, match=error):
            run(page)
    page.write_text("```sh\nnas spaces  # a comment && more\n```\n\n```python\nx = 1\n```\n")
    run(page)
