"""What a folder's images hold beyond bytes: measured once for all processes of a machine. No torch."""

import json
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from nas.documents import write_atomically
from nas.errors import NasError
from nas.training.data.decode import Levels
from nas.training.data.decoding import measure_levels
from nas.training.data.division import FilePart


def levels_in(part: FilePart, root: Path | None) -> Levels:
    """The levels of a training part, by which all parts are scaled; remembered in ``root``.

    Raises:
        NasError: they cannot be kept there.
    """
    if root is None:
        return _measured(part)
    place = root / f"{part.digest[:32]}.levels.json"
    if (known := _read(place)) is not None:
        return known
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):
            if (known := _read(place)) is None:
                known = _measured(part)
                write_atomically(place, json.dumps(asdict(known)))
    except OSError as error:
        raise NasError(f"{error.filename or root}: decoded images cannot be kept: {error.strerror}") from None
    return known


def _measured(part: FilePart) -> Levels:
    return measure_levels([part.file(i) for i in range(len(part))])


def _read(place: Path) -> Levels | None:
    try:
        return Levels(**json.loads(place.read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None
