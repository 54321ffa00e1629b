"""One file holds a run between two epochs: model, optimiser, generators, guard and records.

The file is a header, the SHA-256 of the rest, and a `torch.save` archive that is only ever read with
``weights_only=True``. It is written beside its place and renamed, so that a crash leaves the old one.
"""

import hashlib
import io
import pickle
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas.documents import write_atomically
from nas.errors import NasError
from nas.measurement import EpochRecord

MAGIC = b"fusion-nas checkpoint 1\n"
DIGEST_BYTES = 32


class CheckpointError(NasError):
    """A checkpoint is damaged, or belongs to another run; names the file."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run after some whole epochs."""

    identity: dict[str, Any]
    """What must be equal to go on: architecture, data, training configuration, seed."""
    records: tuple[EpochRecord, ...]
    """One for each epoch that was finished."""
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    """State of the loss scaler; empty without one."""
    guard: dict[str, Any]
    generators: dict[str, Any]
    wall_s: float
    stopped: bool = False
    """Whether the caller stopped the run after the last epoch."""

    def save(self, path: Path) -> None:
        """Write the file atomically, with rights and group of its folder: who may go on with a study may read it."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        content["records"] = [asdict(record) for record in self.records]
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = path.parent.stat()
        content_bytes = MAGIC + hashlib.sha256(data).digest() + data
        write_atomically(path, content_bytes, mode=folder.st_mode & 0o666, group=folder.st_gid)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a file; tensors arrive on the CPU."""
        content = _read(path)
        records = tuple(EpochRecord(**record) for record in content.pop("records"))
        return cls(records=records, **content)


def load_weights(path: Path, model: nn.Module) -> None:
    """Give a network the weights of a checkpoint; every key must fit."""
    try:
        model.load_state_dict(_read(path)["model"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: the weights belong to another network: {reason}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    start = len(MAGIC) + DIGEST_BYTES
    data = raw[start:]
    if not raw.startswith(MAGIC) or hashlib.sha256(data).digest() != raw[len(MAGIC) : start]:
        raise CheckpointError(f"{path}: not a whole checkpoint of this version; remove it to start over")
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    return content


def generator_states() -> dict[str, Any]:
    """The global generators of python, numpy and torch, as values that `torch.load` takes safely."""
    numpy: dict[str, Any] = np.random.get_state(legacy=False)
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": {
            "keys": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            "position": int(numpy["state"]["pos"]),
            "has_gauss": int(numpy["has_gauss"]),
            "gauss": float(numpy["gauss"]),
        },
        "python": [version, list(internal), gauss_next],
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Put the global generators back."""
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    numpy = states["numpy"]
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
