"""Where the files that ship with the package lie, and how a name or a path leads to one."""

from pathlib import Path
from typing import Literal

from nas.errors import NasError, UserError

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
