"""Commands that only read or print never load torch."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nas.study.calibration.prepare import prepare_calibration
from nas.study.calibration.task import task_of
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study
from tests.study.conftest import SUMMARY


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('db') / 'nas.db'}"
    create_study(StudyConfig(name="s", space="patterns"), "", url, lambda _: SUMMARY)
    begun = StudyConfig(name="begun", space="patterns")
    prepare_calibration(begun, "", url, task_of(begun, SUMMARY), summary=SUMMARY, provenance={})
    return url


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["--help"], "search"),
        (["search", "--help"], "STUDY.yaml"),
        (["--version"], "fusion-nas"),
        (["status", "--storage", "URL"], "study s: 0 of 50 trials"),
        (["status", "s", "--watch", "--storage", "URL"], "0 of 50 trials"),
        (["status", "begun", "--storage", "URL"], "calibration begun/calibration/"),
        (["trials", "s", "--storage", "URL"], "waiting"),
        (["spaces"], "patterns"),
        (["landmarks"], "se-everywhere"),
        (["datasets"], "cluttered-digits"),
    ],
)
def test_without_torch(command: list[str], said: str, url: str) -> None:
    code = (
        "import sys; from nas.cli import main; code = main(sys.argv[1:])\n"
        "print([m for m in ('torch', 'lightning', 'timm', 'optuna', 'scipy') if m in sys.modules], code)"
    )
    arguments = [url if part == "URL" else part for part in command]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr
    assert said in done.stdout


def test_every_shipped_study_loads() -> None:
    files = sorted(Path("studies").glob("*.yaml"))
    build = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert {str(file) for file in files} <= build["targets"]["wheel"]["force-include"].keys()
    for file in files:
        config, text = StudyConfig.load(file)
        assert text == file.read_text()
        assert StudyConfig.parse(config.to_dict(), "again") == config
