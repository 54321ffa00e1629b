"""Where the files that ship with the package lie, how a name or a path leads to one, and what a space file extends."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from nas.architecture import SCHEMA
from nas.documents import read_document
from nas.errors import NasError, UserError
from nas.space.vocabulary import SpaceFile

ShippedKind = Literal["search_spaces", "studies"]

_NOUNS: dict[ShippedKind, str] = {"search_spaces": "search space", "studies": "study file"}
_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(kind: ShippedKind) -> Path:
    """The folder of shipped files: inside an installed package, else at the top of the repository."""
    for folder in (_PACKAGE / "shipped" / kind, _PACKAGE.parent / kind):
        if folder.is_dir():
            return folder
    raise NasError(f"the folder {kind} that ships with fusion-nas is missing; install the package again")


def shipped_names(kind: ShippedKind) -> tuple[str, ...]:
    """Names of the shipped files, in alphabetical order."""
    return tuple(sorted(path.stem for path in shipped_folder(kind).glob("*.yaml")))


def list_spaces() -> tuple[str, ...]:
    """Names of the shipped search spaces."""
    return shipped_names("search_spaces")


def find_file(kind: ShippedKind, reference: str | Path, relative_to: Path | None = None) -> Path:
    """The file that ``reference`` means: a shipped name (``full``), or a path (``my/space.yaml``).

    What has a folder or an ending is a path; a relative one starts at the folder ``relative_to``, or at the
    working directory. Raises `UserError` with the shipped names where there is no such file.
    """
    path = Path(reference)
    known = f"shipped: {', '.join(shipped_names(kind))}"
    if path.suffix or len(path.parts) > 1:
        path = (relative_to or Path()) / path
        if not path.is_file():
            raise UserError(f"{path}: no such {_NOUNS[kind]}; {known}")
        return path
    if path.name not in shipped_names(kind):
        raise UserError(f"unknown {_NOUNS[kind]} {str(reference)!r}; {known}; or the path of a .yaml file")
    return shipped_folder(kind) / f"{path.name}.yaml"


def read_space(content: object, source: str, folder: Path | None, seen: tuple[Path, ...] = ()) -> SpaceFile:
    """The content on top of everything that it extends."""
    if not isinstance(content, Mapping):
        raise UserError(f"{source}: expected a mapping of keys, got {type(content).__name__}")
    fields = dict(content)
    schema = fields.pop("schema", None)
    if schema != SCHEMA:
        hint = "; a newer fusion-nas wrote it" if isinstance(schema, int) and schema > SCHEMA else ""
        raise UserError(f"{source}: schema: expected {SCHEMA}, got {schema!r}{hint}")
    file = SpaceFile.parse(fields, source)
    if file.extends is None:
        return file
    try:
        path = find_file("search_spaces", file.extends, folder).resolve()
    except UserError as error:
        raise UserError(f"{source}: extends: {error}") from None
    if path in seen:
        raise UserError(f"{source}: extends: {file.extends} leads back to a file that extends it")
    return file.on_top_of(read_space(read_document(path), str(path), path.parent, (*seen, path)))
