"""The folders in which decoded images lie: the cache folder's own, and those that study files named. No torch."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nas.documents import write_atomically
from nas.errors import NasError
from nas.training.config import DataConfig
from nas.training.data.cache import cache_dir
from nas.training.data.progress import Tell
from nas.training.summary import digest

OURS = re.compile(r"[0-9a-f]{32}(\.partial|\.lock|\.levels\.json|\.levels\.lock)?")
"""Names of what is kept in such a folder, which may hold other things."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was removed from one folder."""

    place: Path
    num_bytes: int


def decoded_folder(config: DataConfig) -> Path | None:
    """Where decoded images are kept; None: nowhere."""
    if config.cache == "off":
        return None
    return decoded_cache() if config.cache == "auto" else Path(config.cache)


def decoded_cache() -> Path:
    """The place of `data.cache: auto`."""
    return cache_dir() / "decoded"


def remember(place: Path, tell: Tell) -> None:
    """Note a place that a study file named, so that `remove_decoded` finds it."""
    if place == decoded_cache():
        return
    note = _notes() / f"{digest([str(place).encode(errors='surrogateescape')])[:32]}.json"
    if note.exists():
        return
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps(str(place)))
    except OSError as error:
        tell(f"{note.parent}: cannot be written ({error.strerror}): nas delete --cache will not find {place}")


def remove_decoded() -> tuple[Removed, ...]:
    """Remove the decoded images of the cache folder and of all places that study files named on this machine.

    Raises:
        NasError: they cannot be removed.
    """
    removed = []
    try:
        for place, note in ((decoded_cache(), None), *_remembered()):
            entries = [path for path in place.iterdir() if OURS.fullmatch(path.name)] if place.is_dir() else []
            removed.append(Removed(place=place, num_bytes=sum(map(_size, entries))))
            for path in entries:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if entries and not any(place.iterdir()):
                place.rmdir()
            if note is not None:
                note.unlink()
    except OSError as error:
        raise NasError(f"{error.filename}: cannot be removed: {error.strerror}") from None
    return tuple(removed)


def _notes() -> Path:
    return cache_dir() / "places"


def _remembered() -> Iterator[tuple[Path, Path]]:
    """Each place and the note of it."""
    for note in sorted(_notes().glob("*.json")):
        try:
            yield Path(json.loads(note.read_text(encoding="ascii"))), note
        except (ValueError, TypeError):  # not written by `remember`
            continue


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if file.is_file())
