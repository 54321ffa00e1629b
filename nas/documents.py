"""YAML and JSON documents: read safely, validated into frozen values, written atomically.

Every error is one line that names the file, the key, what came and what was expected.
"""

import json
import os
import secrets
import shlex
import stat
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from nas.errors import UserError


class Document(BaseModel):
    """A frozen value that a file can hold: unknown keys are errors; docs/generate.py reads the fields' docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @classmethod
    def parse(cls, content: object, source: str) -> Self:
        """Validate ``content``; raise a one-line `UserError` that starts with ``source``."""
        if not isinstance(content, Mapping):
            raise UserError(f"{source}: expected a mapping of keys, got {type(content).__name__}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(f"{source}: {describe(error, cls)}") from None


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a validation error in one line: key, what came, what was expected."""
    problems = error.errors(include_url=False)
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        message = "unknown key" + (f"; known: {', '.join(known)}" if known else "")
    elif first["type"] == "missing":
        message = "this key is missing"
    elif first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    else:
        message = f"{_lower_first(first['msg'])}, got {first['input']!r}"
    more = len(problems) - 1
    rest = f" (and {more} more problem{'s' if more > 1 else ''})" if more else ""
    return (f"{key}: " if key else "") + message + rest


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _known_keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that the model at ``path`` below ``model`` takes, where they can be told."""
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return [field.alias or name for name, field in getattr(current, "model_fields", {}).items()]


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key!r} is given twice", problem_mark=key_node.start_mark
                )
            if isinstance(key, Hashable):  # else the parent says what is wrong
                seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML safely; a syntax error or a repeated key is a one-line `UserError`."""
    try:
        loader = _StrictLoader(text)
    except yaml.YAMLError as error:  # characters that YAML does not allow
        raise UserError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return loader.get_single_data()
    except ValueError as error:  # a date that does not exist, say
        raise UserError(f"{source}: not valid YAML: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise UserError(f"{source}{where}: not valid YAML: {problem}") from None
    finally:
        loader.dispose()


def absolute_path(path: str, folder: Path) -> str:
    """A path that a document in ``folder`` names, as it is from everywhere; ``~`` is the home of its reader.

    Raises:
        UserError: nobody has the home that it names.
    """
    try:
        place = folder.resolve() / Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such home folder; write the whole path") from None
    return str(place.resolve() if ".." in place.parts else place)


def read_text(path: Path) -> str:
    """The text of a file; a missing, unreadable or non-UTF-8 file is a one-line `UserError`."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def read_document(path: Path) -> Any:
    """The content of a YAML or JSON file (told by its ending)."""
    text = read_text(path)
    if path.suffix != ".json":
        return parse_yaml(text, str(path))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from None


def dump_document(content: Mapping[str, object], path: Path) -> str:
    """``content`` as text in the format that the ending of ``path`` names: JSON, else YAML."""
    if path.suffix == ".json":
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def give_group(path: Path, group: int) -> None:
    """Give a file or folder of this process to a group; it stays as it is where its user is not in that group."""
    if hasattr(os, "chown") and path.stat().st_gid != group:
        with suppress(PermissionError):
            os.chown(path, -1, group)


def sticky(path: Path) -> str | None:
    """Why this account may not replace or lock a file of somebody else, if its folder's sticky bit is the reason."""
    try:
        folder, file = path.parent.stat(), path.stat()
    except OSError:
        return None
    if not (hasattr(os, "geteuid") and folder.st_mode & stat.S_ISVTX) or os.geteuid() in (folder.st_uid, file.st_uid):
        return None
    return (
        f"belongs to another user, and {path.parent} is sticky: only its owner may replace it; let the owner of "
        f"the folder run: chmod -t {shlex.quote(str(path.parent))}"
    )


def write_atomically(path: Path, content: str | bytes, *, mode: int | None = None, group: int | None = None) -> None:
    """Write beside ``path``, flush to disk, then rename: a reader sees the old file or the new one.

    Args:
        mode: rights of the file; None: those that the user's umask leaves to every new file.
        group: number of the group that it is given to, as by `give_group`.

    Raises:
        UserError: the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(mode)
        if group is not None:
            give_group(temporary, group)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # there may not even be a folder
            temporary.unlink()
        raise UserError(f"{path}: cannot be written: {sticky(path) or error.strerror}") from None
