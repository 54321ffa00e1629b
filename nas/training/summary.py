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
class LabelCheck:
    """Whether labels have to do with their images; see `nas.training.data.labels`."""

    num_images: int
    """Training images that were looked at."""
    agreement: float
    """Share of the nearest neighbours of an image that have its label."""
    chance: float
    """The same where labels are dealt out anew."""
    told: float
    """Share of the images whose label a regression on all others finds."""
    p: float
    """How often labels that are dealt out anew look as well as these."""
    meaningless: bool
    wrong_at_most: float | None = None
    """About how many labels are wrong at most, as a share; None where nothing can be said."""

    @property
    def text(self) -> str:
        """One line for people."""
        seen = f"{self.agreement:.2f} of their nearest neighbours, {self.chance:.2f} by chance"
        if self.meaningless:
            return (
                f"labels agree with those of their nearest neighbours no more often than by chance "
                f"({self.agreement:.2f} against {self.chance:.2f}), nor do parts of the images tell them "
                f"(p = {self.p:.2g}): a network can only learn them by heart; check data.source, and that each label "
                "stands by its own image"
            )
        most = "" if self.wrong_at_most is None else f"; about {self.wrong_at_most:.2f} are wrong at most"
        return f"agree with {seen}; a regression tells {self.told:.2f}{most}"


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
    labels: LabelCheck | None = None
    """Asked where a study begins; None where nobody asked, or there are too few images to say."""
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

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said where a study begins, one line each."""
        return (*self.notes, self.labels.text) if self.labels and self.labels.meaningless else self.notes

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
