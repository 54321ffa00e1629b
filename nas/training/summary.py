"""What a data set holds, and how one is divided. No torch."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas.errors import DataError
from nas.training.config import DataConfig

Part = Literal["train", "val", "test"]
Labels = NDArray[np.int64]
Content = TypeVar("Content")


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """A data set in numbers."""

    source: str
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    """Training images of each class."""
    in_chans: int
    image_size: int
    """Side of the square image in pixels."""
    num_train: int
    num_val: int
    num_test: int
    fingerprint: str
    """SHA-256 (hex) over what the training and validation parts hold and how they are divided."""
    notes: tuple[str, ...] = ()
    """What a reader should know of how the data was read, one line each."""
    no_room: bool = False
    """Whether decoded images were to be kept and found no room: each is decoded whenever it is used."""

    @property
    def num_classes(self) -> int:
        """Classes of the task."""
        return len(self.class_names)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return (self.in_chans, self.image_size, self.image_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "num_classes": self.num_classes}


def stratified_split(
    labels: Labels, *, val_fraction: float, test_fraction: float, seed: int, balanced: bool = True
) -> dict[Part, NDArray[np.int64]]:
    """Divide images into three parts with the class shares of the whole; a function of its arguments only.

    The training indices are ordered as `training_order` says, the other two ascend.
    """
    parts: dict[Part, list[NDArray[np.int64]]] = {"train": [], "val": [], "test": []}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = np.random.default_rng([seed, int(label)]).permutation(members)
        num_val, num_test = round(len(members) * val_fraction), round(len(members) * test_fraction)
        parts["val"].append(members[:num_val])
        parts["test"].append(members[num_val : num_val + num_test])
        parts["train"].append(members[num_val + num_test :])
    return {
        "train": np.concatenate(parts["train"])[training_order([len(group) for group in parts["train"]], balanced)],
        "val": np.sort(np.concatenate(parts["val"])),
        "test": np.sort(np.concatenate(parts["test"])),
    }


def training_order(counts: Sequence[int], balanced: bool) -> NDArray[np.int64]:
    """An order of images that lie class by class, of which every prefix is balanced, or has the shares of the classes.

    Both begin with the first of each class, and are the same where all classes are of one size.
    """
    rank = np.concatenate([np.arange(count) for count in counts])
    if balanced:
        return np.argsort(rank, kind="stable")
    size = np.repeat(counts, counts)
    return np.lexsort((rank / size, rank > 0))


def take_training(indices: NDArray[np.int64], config: DataConfig) -> NDArray[np.int64]:
    """The first `num_train` of the training indices."""
    if config.num_train is None:
        return indices
    if config.num_train > len(indices):
        raise DataError(
            f"num_train: {config.num_train} asked for, but {config.source} has {len(indices)} training images"
        )
    return indices[: config.num_train]


def held_out(found: Mapping[Part, Content], config: DataConfig) -> dict[Part, Content]:
    """The parts that a source comes in: without a test part, the one called validation is what no search sees."""
    if config.reading > 1 and config.val_is == "test" and "val" in found and "test" not in found:
        return {"test" if part == "val" else part: content for part, content in found.items()}
    return dict(found)


def check_parts(source: str, num_train: int, num_val: int, num_classes: int) -> None:
    """Raise a `DataError` where a data set cannot be trained or validated on."""
    if num_classes <= 1:
        raise DataError(f"{source}: expected at least 2 classes, found {num_classes}")
    if num_train == 0 or num_val == 0:
        raise DataError(f"{source}: {num_train} training and {num_val} validation images; both must be above 0")


def digest(chunks: Iterable[bytes | memoryview]) -> str:
    """SHA-256 (hex) over length-prefixed chunks."""
    state = hashlib.sha256()
    for chunk in chunks:
        state.update(len(chunk).to_bytes(8, "little"))
        state.update(chunk)
    return state.hexdigest()
