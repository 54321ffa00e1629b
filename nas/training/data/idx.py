"""Arrays in the IDX format of MNIST and its kin, plain or gzipped.

Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits, 1998.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.errors import DataError

BYTES = 0x08
"""Type code of unsigned bytes: the only one that images and labels come in."""


def read_idx(path: Path, num_dims: int) -> NDArray[np.uint8]:
    """The array of a file; a `DataError` names one that is missing, damaged or of another kind."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    header = 4 + 4 * num_dims
    if len(content) < header or content[:4] != bytes((0, 0, BYTES, num_dims)):
        raise DataError(f"{path}: expected an IDX file of bytes in {num_dims} dimensions, got {content[:4].hex()}")
    shape = tuple(np.frombuffer(content, ">u4", num_dims, 4).tolist())
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise DataError(f"{path}: expected {expected} bytes for an array of {shape}, got {len(content)}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
