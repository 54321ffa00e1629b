"""Decodes every file once, so that a broken one is named before the training begins."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from nas.errors import DataError
from nas.training.data.listing import ImagePart

_verified: dict[Path, tuple[int, int]] = {}
"""Modification time and size of the files that this process has decoded without fault."""


def verify(part: ImagePart) -> None:
    """Decode every file that was not decoded yet; raise a `DataError` that names the first broken one."""
    files = [file for file in map(part.file, range(len(part))) if file is not None]
    with ThreadPoolExecutor(4, thread_name_prefix="verify") as pool:
        for fault in pool.map(_fault, files):
            if fault is not None:
                pool.shutdown(cancel_futures=True)
                raise DataError(fault)


def _fault(file: Path) -> str | None:
    try:
        stat = file.stat()
        key = (stat.st_mtime_ns, stat.st_size)
        if _verified.get(file) != key:
            with Image.open(file) as image:
                image.load()
                if image.mode == "F" and not np.isfinite(np.asarray(image)).all():
                    return f"{file}: holds values that are not finite"
            _verified[file] = key
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{file}: not a readable image: {' '.join(str(error).split()) or type(error).__name__}"
    return None
