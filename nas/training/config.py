"""What a study file says about data, training and the guard. Needs no torch."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nas.backbones import TIMM
from nas.documents import Document, absolute_path
from nas.training.augment_config import AugmentConfig, RecipeName
from nas.training.signals import SIGNALS
from nas.training.signals.signal import Signal, Verdict

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Schedule = Literal["cosine", "constant"]
Tracker = Literal["tensorboard", "mlflow", "wandb"]

PLACED = ("folder", "fashion-mnist", "python")
"""Sources that a colon and a path follow; of `python` also the name of a module."""
SCHEMES = ("torch", "hfds", "hfids", "tfds", "wds")
"""Prefixes of timm's create_dataset, beside folders."""
STREAMS = ("hfids", "tfds", "wds")
"""Those that are read once into memory."""
EMNIST_SPLITS = {
    "byclass": 116_323,
    "bymerge": 116_323,
    "balanced": 18_800,
    "letters": 20_800,
    "digits": 40_000,
    "mnist": 10_000,
}
"""How EMNIST is divided into classes, and test images of each."""
DATA_SOURCES = {
    "digits": "scikit-learn's 1,797 handwritten digits, 8 × 8 grey pixels",
    "noisy-digits": "those digits under noise",
    "cluttered-digits": "those digits on a 24 × 24 canvas among pieces of others and noise",
    "cued-digits": "a red and a green one on 10 × 10 pixels; a blue mark somewhere tells which of them counts",
    "fashion-mnist[:PATH]": "70,000 grey pictures of clothes, 28 × 28 pixels: Debian's dataset-fashion-mnist, or PATH",
    "folder:PATH": "images in one folder a class, or in train/, val/ and test/ with such folders",
    "python:MODULE:FUNCTION": "what a function of yours returns: arrays, or a map-style data set of PyTorch",
    "torch/NAME:ROOT": "torchvision's on disk: cifar10, cifar100, mnist, emnist/letters, svhn, stl10, imagenet, …",
    "hfds/NAME[:ROOT]": "a data set of the Hugging Face hub (needs the package datasets)",
    "hfids/NAME[:ROOT]": "the same as a stream, read once into memory",
    "tfds/NAME[:ROOT]": "a data set of TensorFlow Datasets, read once into memory (needs its package)",
    "wds/NAME:ROOT": "shards of WebDataset, read once into memory (needs webdataset)",
}
"""What a study file can name as its data, and what it is."""

Count = Annotated[int, Field(ge=1, strict=True)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class DataConfig(Document):
    """Which images, at what size, and how they are divided."""

    source: Annotated[str, Field(min_length=1)] = "digits"
    """`digits`, `noisy-digits`, `cluttered-digits`, `cued-digits`, `fashion-mnist`, `folder:PATH`,
    `python:MODULE:FUNCTION` (or `python:FILE.py:FUNCTION`), or a scheme of timm, as in `torch/cifar10:PATH`. A relative
    path starts at the study file's folder."""
    image_size: Count | None = None
    """Side of the square image in pixels; unset: as the source has it (8, 24, 10, 28, torchvision's small sets
    28, 32 or 96), else 224."""
    in_chans: Literal[1, 3] | None = None
    """1 reads image files as grey, 3 as colour; unset: 1 for grey digits and what is kin to MNIST, else 3."""
    num_train: Count | None = None
    """Training images: a fixed subset, or how many of the `cluttered-` and `cued-digits` are made; unset: all, 4096."""
    balanced: bool = False
    """Whether a subset holds as many images of each class as there are; else it keeps the classes' shares. Those of
    digits and MNIST always do."""
    val_fraction: Fraction = 0.2
    """Share of the images kept for validation, where the source does not come divided."""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the images that no search ever sees, where the source does not come divided."""
    val_is: Literal["test", "val"] = "test"
    """What a validation part without a test part beside it is: `test`, which no search sees, so that validation images
    are cut from the training images; or `val`."""
    split_seed: Annotated[int, Field(ge=0, strict=True)] = 0
    """Chooses the division."""
    reading: Literal[1, 2] = 2
    """How images are listed and divided; 1 as versions before this key did, and as their studies go on."""
    cache: Annotated[str, Field(min_length=1)] = "auto"
    """Where a folder's decoded images are kept: `auto` (the cache folder), `off` (nowhere: each is decoded whenever it
    is used) or a folder."""
    recipe: RecipeName | None = None
    """How training images are augmented where `augment` does not say: `digits` shifts, `cifar` shifts and flips,
    `imagenet` crops, flips and changes colours; unset: what suits the source."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation by name, or `true` for the recipe and `false` for none."""
    workers: Annotated[int, Field(ge=0, strict=True)] = 0
    """Processes that decode image files that are not kept decoded."""

    @field_validator("cache", mode="before")
    @classmethod
    def _off(cls, cache: Any) -> Any:
        return "off" if cache is False else cache  # YAML reads it so

    @model_validator(mode="before")
    @classmethod
    def _flip_beside(cls, content: Any) -> Any:
        """`flip` stood beside `augment` once, and says the same there; with `augment: false`, nothing."""
        if not isinstance(content, Mapping) or "flip" not in content:
            return content
        flip, augment = content["flip"], content.get("augment", True)
        rest = {key: value for key, value in content.items() if key != "flip"}
        if flip is None or augment is False:
            return rest
        if augment is True:
            return {**rest, "augment": {"flip": flip}}
        raise ValueError(f"flip: {flip} stands beside augment; expected it as augment.flip")

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        scheme, _, rest = source.partition(":") if source.startswith(PLACED) else source.partition("/")
        if source not in (*DATA_SOURCES, "fashion-mnist") and not (scheme in (*PLACED, *SCHEMES) and rest):
            raise ValueError(f"unknown data source {source!r}; known: {', '.join(DATA_SOURCES)}")
        name, _, split = source.partition(":")[0].lower().removeprefix("torch/").partition("/")
        if scheme == "torch" and name == "emnist" and split not in EMNIST_SPLITS:
            raise ValueError(f"{source!r}: expected torch/emnist/SPLIT:ROOT, SPLIT one of {', '.join(EMNIST_SPLITS)}")
        if scheme == "python" and not all(rest.rpartition(":")[::2]):
            raise ValueError(f"{source!r}: expected python:package.module:function or python:PATH/file.py:function")
        return source

    @model_validator(mode="after")
    def _room_for_training(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            both = f"{self.val_fraction:g} + {self.test_fraction:g}"
            raise ValueError(f"val_fraction + test_fraction must be below 1, got {both}")
        return self

    @model_validator(mode="after")
    def _recipe_counts(self) -> Self:
        if self.recipe is not None and self.augment == AugmentConfig.none():
            raise ValueError(f"recipe: {self.recipe} has no effect beside augment: false; leave one of them out")
        return self

    @property
    def kind(self) -> str:
        """What the source is, without the place where it lies."""
        return self.source.partition(":")[0]

    def placed(self, folder: Path) -> Self:
        """The same data for readers in any folder: its paths start at ``folder``."""
        update = {} if self.cache in ("auto", "off") else {"cache": absolute_path(self.cache, folder)}
        kind, _, place = self.source.partition(":")
        if kind == "python" and not place.partition(":")[0].endswith(".py"):
            return self.model_copy(update=update)
        if place and "://" not in place and not place.startswith("pipe:"):  # WebDataset reads from the web and commands
            update["source"] = f"{kind}:{absolute_path(place, folder)}"
        return self.model_copy(update=update)


class TrainingConfig(Document):
    """How one candidate is trained."""

    epochs: Count = 5
    """Passes over the training images."""
    batch_size: Count = 64
    """Largest batch; an epoch is cut into batches of nearly equal size."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    """Peak learning rate of SGD."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum; 0 switches it off."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """L2 penalty on weight matrices and kernels; none on norms, biases, λ and γ."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Epochs over which the learning rate rises linearly to its peak."""
    schedule: Schedule = "cosine"
    """`cosine` falls to nearly 0 at the last step, `constant` stays at the peak."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability mass that is spread over all classes in the training loss."""
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global gradient norm; unset: no clipping."""
    zero_init_branches: bool | None = None
    """Start residual branches at 0, as timm does; unset: all but `resnet_micro`, which hardly learns that way."""
    init_from: Annotated[str, Field(min_length=1)] | None = None
    """Weights of the plain network that every candidate starts from: a file, or `timm:NAME.TAG`; unset: none."""
    precision: Precision = "32-true"
    """Number format of forward and backward passes. `16-mixed` needs a GPU; a CPU takes bfloat16 for it."""
    channels_last: bool = True
    """Memory layout NHWC, faster for convolutions on CPUs and on tensor cores."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")] = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""
    threads: Count | None = None
    """CPU threads of one worker; unset: cores divided by local workers."""

    def placed(self, folder: Path) -> Self:
        """The same training for readers in any folder: the path of weights starts at ``folder``."""
        if self.init_from is None or self.init_from.startswith(TIMM):
            return self
        return self.model_copy(update={"init_from": absolute_path(self.init_from, folder)})


class GuardConfig(Document):
    """When a run counts as broken, and what follows."""

    thresholds: dict[str, float | None] = {}  # noqa: RUF012 - pydantic copies it
    """Thresholds by signal, beside the defaults; `off` or null switches a signal off."""
    verdicts: dict[str, Verdict] = {}  # noqa: RUF012 - as above
    """`prune`, `warn` or `recover` by signal, beside the defaults."""
    recover_factor: Fraction = 0.1
    """What `recover` multiplies the learning rate by, once in a run."""

    @field_validator("thresholds", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return {k: None if v is False else v for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("thresholds")
    @classmethod
    def _in_range(cls, thresholds: dict[str, float | None]) -> dict[str, float | None]:
        for name, threshold in thresholds.items():
            signal = _signal(name)
            if threshold is not None and not signal.minimum <= threshold <= min(signal.maximum, sys.float_info.max):
                upper = f" to {signal.maximum:g}" if math.isfinite(signal.maximum) else ""
                raise ValueError(f"{name}: expected a number from {signal.minimum:g}{upper} or off, got {threshold}")
        return thresholds

    @field_validator("verdicts")
    @classmethod
    def _possible(cls, verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
        for name, verdict in verdicts.items():
            if not _signal(name).can_recover and verdict == "recover":
                raise ValueError(f"{name}: expected prune or warn, got recover: a lower rate mends nothing there")
        return verdicts

    @classmethod
    def off(cls) -> Self:
        """A guard that never speaks."""
        return cls.only()

    @classmethod
    def only(cls, *names: str) -> Self:
        """A guard of these signals alone, at their defaults."""
        return cls(thresholds={signal.name: None for signal in SIGNALS if signal.name not in names})

    def signals(self) -> tuple[Signal, ...]:
        """Fresh signals for one run, without those that are switched off."""
        chosen = [(signal, self.thresholds.get(signal.name, signal.default)) for signal in SIGNALS]
        return tuple(signal(threshold) for signal, threshold in chosen if threshold is not None)

    def verdict(self, name: str) -> Verdict:
        """What follows when a signal speaks."""
        return self.verdicts.get(name, _signal(name).verdict)


def _signal(name: str) -> type[Signal]:
    for signal in SIGNALS:
        if signal.name == name:
            return signal
    raise ValueError(f"unknown signal {name!r}; known: {', '.join(signal.name for signal in SIGNALS)}")
