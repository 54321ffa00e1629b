"""Writes docs/cli.md and docs/configuration.md from what the program says of itself.

Run it after a command, an option or a configuration field has changed: ``python docs/generate.py``.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nas.architecture import Architecture
from nas.cli import app
from nas.space.vocabulary import SpaceFile
from nas.study.config import StudyConfig

FOLDER = Path(__file__).parent
SIMPLE_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
NOTE = "<!-- Written by docs/generate.py; change the docstrings instead. -->\n"


def cli_page() -> str:
    """Every command with its arguments and options."""
    parts = [NOTE, "# Commands\n"]
    parts.append(
        "Results go to standard output, progress and logs to standard error. Exit codes: 0 done, 1 the work failed, "
        "2 the input was wrong (one line says what, where and what would be right), 130 interrupted.\n"
    )
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        if command.hidden:
            continue
        shown = [p for p in command.params if not getattr(p, "hidden", False)]
        arguments = [p for p in shown if p.param_type_name == "argument"]
        usage = " ".join(["nas", name, *(a.metavar if a.required else f"[{a.metavar}]" for a in arguments)])
        options = [p for p in shown if p.param_type_name == "option"]
        parts += [f"## nas {name}\n", f"{_one_line(command.help)}\n"]
        parts.append(f"```text\n{usage}{' [OPTIONS]' if options else ''}\n```\n")
        if shown:
            parts.append("| argument or option | what it does |\n|---|---|")
            parts.append("\n".join(f"| {_parameter(p)} | {_cell(_meaning(p))} |" for p in shown) + "\n")
    parts += ["## One word, one meaning\n", WORDS, _shared_options(group)]
    return "\n".join(parts)


WORDS = """\
An option that several commands have means the same in each of them.

`--trials` is the size of a study, never what is added to it; a single worker leaves after `--max-trials`. `--trial`
names one trial. `--devices` takes several devices where several workers compute.

What a command is told to write (`-o`) is not written over anything, unless it is told so by `--force`. What a search
writes when it ends, `best.yaml` and `report.html` in the folder of its name, is its own and is renewed. `nas delete`
asks before it removes anything, unless it is told `--yes`.
"""


def _shared_options(group: Any) -> str:
    """A table of the options that more than one command has."""
    commands: dict[tuple[str, str], list[str]] = {}
    for name, command in group.commands.items():
        for option in (p for p in command.params if p.param_type_name == "option" and not p.hidden):
            commands.setdefault((option.opts[-1], _one_line(option.help)), []).append(name)
    rows = [
        f"| `{option}` | {_cell(meaning)} | {', '.join(names)} |"
        for (option, meaning), names in sorted(commands.items())
        if len(names) > 1
    ]
    return "\n".join(["| option | means | commands |", "|---|---|---|", *rows]) + "\n"


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_cell(parameter.metavar)}`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return f"{names} `{_cell(parameter.metavar)}`" if parameter.metavar else names


def _meaning(parameter: Any) -> str:
    default = parameter.default
    if default in (None, False, ()) or callable(default) or parameter.required:
        return _one_line(parameter.help)
    return f"{_one_line(parameter.help)} Default: `{getattr(default, 'value', default)}`."


def configuration_page() -> str:
    """Every key of study files, search-space files and architecture files."""
    parts = [NOTE, "# Configuration\n"]
    parts.append("Unknown keys and impossible values are errors that name the file, the key and what was expected.\n")
    for title, model in (
        ("Study file", StudyConfig),
        ("Search-space file", SpaceFile),
        ("Architecture file", Architecture),
    ):
        parts += [f"## {title}\n", f"{_one_line(model.__doc__)}\n", _table(model)]
        parts += [
            part
            for path, inner in _inner_models(model)
            for part in (f"### {title}: `{path}`\n", f"{_one_line(inner.__doc__)}\n", _table(inner))
        ]
    return "\n".join(parts)


def _inner_models(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        for inner in _models_in(field.annotation):
            path = f"{prefix}{field.alias or name}"
            yield path, inner
            yield from _inner_models(inner, f"{path}.")


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found = [model for inner in get_args(annotation) for model in _models_in(inner)]
    return list(dict.fromkeys(found))


def _table(model: type[BaseModel]) -> str:
    meanings = help_texts(model)
    rows = [
        f"| `{field.alias or name}` | {_cell(_type(field.annotation))} | {_cell(_default(field))} | "
        f"{_cell(_one_line(meanings[name]))} |"
        for name, field in model.model_fields.items()
    ]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def help_texts(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings of a model's fields by name.

    pydantic can read them too (`use_attribute_docstrings`), but would whenever a command starts: 40 ms of each.
    """
    found = {}
    for kind in reversed([base for base in model.__mro__ if issubclass(base, BaseModel) and base is not BaseModel]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
        for field, text in pairwise(body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    found[name] = said
    return found


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "unset"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != {} else "none"


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    texts = list(dict.fromkeys(_type(a) for a in inner if a not in (type(None), ...) and not isinstance(a, FieldInfo)))
    if origin in (Union, UnionType):
        return " or ".join(texts)
    if origin is not None:
        return {Annotated: "{0}", tuple: "list of {0}", dict: "mapping of {0} to {1}"}[origin].format(*texts)
    return SIMPLE_TYPES.get(annotation, "keys below" if hasattr(annotation, "model_fields") else "any")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES = {"cli.md": cli_page, "configuration.md": configuration_page}


def main() -> int:
    """Write the pages."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
