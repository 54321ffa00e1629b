"""The documentation is up to date, complete and renders."""

import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml

from nas.cli import app
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [*PAGES, DOCS.parent / "README.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return [code for found, code in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return {name: command for name, command in group.commands.items() if not command.hidden}


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    return import_module("generate")


def test_generated_pages_are_up_to_date(generate: ModuleType) -> None:
    for name, page in generate.PAGES.items():
        assert (DOCS / name).read_text(encoding="utf-8") == page(), f"run: python docs/generate.py ({name})"


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_stands_in_the_docs(name: str) -> None:
    section = (DOCS / "cli.md").read_text(encoding="utf-8").split(f"## nas {name}\n")[1].split("\n## ")[0]
    for parameter in commands()[name].params:
        if not getattr(parameter, "hidden", False):
            words = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]
            assert all(f"`{word}`" in section for word in words), parameter.name
            assert parameter.help, f"nas {name}: {parameter.name} has no help"


def test_every_key_of_a_study_file_stands_in_the_docs(generate: ModuleType) -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")

    def rows(model: Any) -> None:
        meanings = generate.help_texts(model)
        assert meanings.keys() == model.model_fields.keys(), f"{model.__name__}: a field has no docstring"
        for name, field in model.model_fields.items():
            meaning = " ".join(meanings[name].split()).replace("|", "\\|")
            assert re.search(rf"^\| `{field.alias or name}` \|.*\| {re.escape(meaning)} \|$", text, re.MULTILINE)
            if hasattr(field.annotation, "model_fields"):
                rows(field.annotation)

    rows(StudyConfig)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_command_lines_name_what_there_is(page: Path) -> None:
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            for part in re.split(r"&&|\|", line.partition(" #")[0]):
                words = shlex.split(part)
                if words[:2] == ["uv", "run"]:
                    words = words[2:]
                if len(words) > 1 and words[0] == "nas" and not words[1].startswith("-"):
                    assert words[1] in commands(), line
                    known = {option for p in commands()[words[1]].params for option in (*p.opts, *p.secondary_opts)}
                    given = {word.partition("=")[0] for word in words[2:] if word.startswith("-")}
                    assert given <= known | {"-h", "--help"}, line


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_yaml_blocks_are_files_that_load(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        content = yaml.safe_load(block)
        if "extends" in content:
            (tmp_path / "space.yaml").write_text(block)
            assert SearchSpace.load(tmp_path / "space.yaml").size > 1
        else:  # a study file, or some keys of one
            assert StudyConfig.parse({"name": "part", **content}, page.name)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
