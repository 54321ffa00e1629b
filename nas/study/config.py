"""The study file: what is searched, on which data, with which budget. No torch, no optuna."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictInt, field_validator, model_validator

from nas.architecture import Backbone
from nas.documents import Document, parse_yaml, read_text
from nas.errors import UserError
from nas.estimate.brief import brief_config
from nas.estimate.config import CalibrationConfig, EstimateConfig
from nas.space.files import find_file
from nas.space.landmarks import LANDMARKS
from nas.training.config import DataConfig, GuardConfig, Tracker, TrainingConfig

RUNTIME_KEYS = ("trials", "workers", "timeout_s", "tracking")
"""What may change when a stored study goes on; everything else decides what a score means."""
CANDIDATES = "/candidates"
"""What the name of a study's cheap scores has behind the study's own."""
CONFIRM = "/confirm"
"""What the name of a study's confirmation has behind the study's own, before the seed."""
BRIEF_SHARE = 0.4
"""Epochs of a brief training, as a share of the full ones, where nobody says."""
_COMPARED_ELSEWHERE = ("space",)


class PrunerConfig(Document):
    """Stops trials whose score is hopeless (the guard stops those that break)."""

    name: Literal["median", "asha", "hyperband", "none"] = "median"
    """`median`, `asha` (successive halving), `hyperband` or `none`."""
    startup_trials: Annotated[StrictInt, Field(ge=0)] = 8
    """median: trials that must be complete before anything is stopped."""
    warmup_epochs: Annotated[StrictInt, Field(ge=0)] = 1
    """median: epochs that every trial may run."""
    min_epochs: Annotated[StrictInt, Field(ge=1)] = 1
    """asha, hyperband: epochs of the first rung."""
    reduction_factor: Annotated[StrictInt, Field(ge=2)] = 3
    """asha, hyperband: one in this many goes on to the next rung."""


class StudyConfig(Document):
    """One study, as a study file gives it."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    """Format of the file; 1."""
    name: Annotated[str, Field(min_length=1, max_length=256)]
    """Name of the study in the database."""
    space: str = "full"
    """A shipped search space (`nas spaces`) or the path of a space file."""
    backbone: Backbone = Backbone(name="resnet_micro", stem="small")
    """The plain network that carries the fusion."""
    data: DataConfig = DataConfig()
    """Where the images come from."""
    training: TrainingConfig = TrainingConfig()
    """How each candidate is trained."""
    guard: GuardConfig = GuardConfig()
    """When a run counts as unstable."""
    estimate: EstimateConfig = EstimateConfig()
    """Which candidates are trained: a mapping, or the name of an estimator alone, as in `estimate: shared`."""
    calibrate: CalibrationConfig | None = None
    """How `nas calibrate` measures which estimator to use; with `estimate: auto`, a search begins with it."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe` (multivariate, conditional) or `random`."""
    pruner: PrunerConfig = PrunerConfig()
    """When a hopeless trial is stopped."""
    landmarks: tuple[str, ...] = tuple(LANDMARKS)
    """Known networks that are trained first; `plain` is always among them."""
    trials: Annotated[StrictInt, Field(ge=1)] = 50
    """Networks that the whole study trains, landmarks included."""
    seed: Annotated[StrictInt, Field(ge=0)] = 0
    """Seed of sampling and training."""
    workers: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    """Local worker processes that `nas search` starts."""
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which no new trial starts; running ones are put back."""
    tracking: Tracker | None = None
    """`tensorboard`, `mlflow` or `wandb`: each trial is a run there too; unset: nothing is written or sent."""

    @field_validator("landmarks")
    @classmethod
    def _known_landmarks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in LANDMARKS:
                raise ValueError(f"unknown landmark {name!r}; known: {', '.join(LANDMARKS)}")
        return tuple(dict.fromkeys(("plain", *names)))

    @model_validator(mode="after")
    def _shares_from_scratch(self) -> Self:
        if self.estimate.by == "shared" and self.training.init_from is not None:
            raise ValueError("estimate: shared networks start from scratch; leave training.init_from out")
        return self

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> tuple[Self, str]:
        """The study of a file (or of a shipped study's name) with ``key.sub=value`` overrides, and the file's text."""
        file = find_file("studies", path)
        text = read_text(file)
        content = parse_yaml(text, str(file))
        if not isinstance(content, dict):
            raise UserError(f"{file}: expected a mapping of keys, got {type(content).__name__}")
        for override in overrides:
            _apply(content, override)
        config = cls.parse(content, str(file))
        space = Path(config.space)
        if space.suffix or len(space.parts) > 1:
            config = config.model_copy(update={"space": str(file.parent / space)})
        return config, text

    def of_candidates(self, estimate: EstimateConfig) -> Self:
        """The study that scores this one's candidates by a cheap estimator."""
        full = self.training.epochs
        epochs = estimate.epochs or (full if estimate.by == "shared" else max(1, round(BRIEF_SHARE * full)))
        return self.model_copy(
            update={
                "name": self.name + CANDIDATES,
                "estimate": estimate.model_copy(update={"epochs": epochs}),
                "training": brief_config(self.training, epochs),
                "trials": estimate.candidates,
                "tracking": None,
            }
        )

    def of_confirmation(self, seed: int) -> Self:
        """The study that trains networks of this one again with another seed: in full, and nobody stops them."""
        return self.model_copy(
            update={
                "name": f"{self.name}{CONFIRM}/{seed}",
                "seed": seed,
                "estimate": EstimateConfig(),
                "calibrate": None,
                "guard": GuardConfig.off(),
                "pruner": PrunerConfig(name="none"),
                "sampler": "random",
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in the database."""
        return self.model_dump(mode="json", by_alias=True)

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """What differs from a stored study in a way that would change what its scores mean, one text a key.

        The space is left out: it is compared by what it holds, not by its name.
        """
        given = _flatten(self.to_dict())
        other = _flatten(self.parse(stored, f"study {self.name}").to_dict())  # keys that are new have their defaults
        return [
            f"{key}: stored {other.get(key)!r}, given {given.get(key)!r}"
            for key in sorted(given.keys() | other.keys())
            if given.get(key) != other.get(key) and key not in (*RUNTIME_KEYS, *_COMPARED_ELSEWHERE)
        ]


def _apply(content: dict[str, Any], override: str) -> None:
    """Set ``a.b=value`` in a nested mapping; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: expected KEY=VALUE, for example training.epochs=3")
    *path, last = key.split(".")
    target = content
    for part in path:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UserError(f"--set {override}: {part} holds a single value, not a mapping of keys")
    target[last] = parse_yaml(text, f"--set {override}")


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
