"""The study file: what is searched, on which data, with which budget. No torch, no optuna."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, StrictInt, field_validator, model_validator

from nas.architecture import Backbone
from nas.documents import Document, absolute_path, parse_yaml, read_text
from nas.errors import UserError
from nas.estimate.brief import brief_config
from nas.estimate.config import CalibrationConfig, EstimateConfig
from nas.space.files import find_file
from nas.space.landmarks import LANDMARKS
from nas.study.companions import CALIBRATION, CANDIDATES, CONFIRM, check_new_name
from nas.study.goals import KNOWN_COSTS, QUALITIES, Constraint, Direction, Objectives, Quantity
from nas.training.config import DataConfig, GuardConfig, Tracker, TrainingConfig

if TYPE_CHECKING:
    from nas.training.summary import DataSummary

RUNTIME_KEYS = ("trials", "workers", "timeout_s", "tracking")
"""What may change when a stored study goes on; everything else decides what a score means."""
BRIEF_SHARE = 0.4
"""Epochs of a brief training, as a share of the full ones, where nobody says."""
SEEDS = 2**32
"""Numpy's generators take no larger seed."""
_COMPARED_ELSEWHERE = ("space",)

SamplerName = Literal["tpe", "random", "nsga2", "gp", "grid", "evolution"]


class PrunerConfig(Document):
    """Stops trials whose score is hopeless (the guard stops those that break)."""

    name: Literal["median", "asha", "hyperband", "none"] = "median"
    """`median`, `asha` (asynchronous successive halving), `hyperband` or `none`; several objectives: `asha` or `none`,
    and `asha` unless the file says otherwise."""
    startup_trials: Annotated[StrictInt, Field(ge=0)] = 8
    """median: trials that must be complete before anything is stopped."""
    warmup_epochs: Annotated[StrictInt, Field(ge=0)] | None = None
    """median: epochs that every trial may run; unset: a third of them all, since what starts slowly may end well."""
    min_epochs: Annotated[StrictInt, Field(ge=1)] = 1
    """asha, hyperband: epochs of the first rung."""
    reduction_factor: Annotated[StrictInt, Field(ge=2)] = 3
    """asha, hyperband: one in this many goes on to the next rung."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Epochs after which asha compares trials that run for ``epochs``."""
        powers = (self.min_epochs * self.reduction_factor**k for k in range(epochs.bit_length()))
        return tuple(level for level in powers if level < epochs)


class LatencyConfig(Document):
    """How `latency_ms` is timed: alone on its device, in turns with the plain network."""

    batch: Annotated[StrictInt, Field(ge=1)] = 1
    """Images in one forward pass."""
    threads: Annotated[StrictInt, Field(ge=1)] = 1
    """CPU threads."""
    repeats: Annotated[StrictInt, Field(ge=2)] = 20
    """Timed forward passes, of which the median counts."""


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
    """How `nas calibrate` measures which estimator to use; with `estimate: auto` or `predictor`, a search
    begins with it."""
    objectives: dict[Quantity, Direction] = {"val_accuracy": "maximize"}  # noqa: RUF012 - pydantic copies it
    """What is optimised, `maximize` or `minimize` by quantity: `val_accuracy`, `val_top5`, `val_macro_f1`,
    `val_balanced_accuracy` or `val_loss`, and any of `params`, `macs`, `latency_ms`, `peak_memory_mb`, `train_s`."""
    constraints: tuple[str, ...] = ()
    """Limits on these quantities, as in `params <= 12e6` or `latency_ms <= 1.1 * plain`; what breaks one that is known
    before training is not trained."""
    latency: LatencyConfig = LatencyConfig()
    """How `latency_ms` is timed."""
    sampler: SamplerName = "tpe"
    """`tpe` (multivariate, conditional), `nsga2`, `evolution` (regularised), `gp` (spaces without conditions), `grid`
    (spaces that can be listed) or `random`; several objectives: `nsga2` unless the file says otherwise."""
    pruner: PrunerConfig = PrunerConfig()
    """When a hopeless trial is stopped."""
    landmarks: tuple[str, ...] = tuple(LANDMARKS)
    """Known networks that are trained first; `plain` is always among them."""
    trials: Annotated[StrictInt, Field(ge=1)] = 50
    """Networks that the whole study trains, landmarks included."""
    seed: Annotated[StrictInt, Field(ge=0, lt=SEEDS)] = 0
    """Seed of sampling and training, below 2³²."""
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

    @field_validator("objectives", mode="before")
    @classmethod
    def _with_directions(cls, objectives: Any) -> Any:
        if not isinstance(objectives, Mapping):
            raise ValueError(f"expected QUANTITY: maximize or QUANTITY: minimize on each line, got {objectives!r}")
        for name, direction in objectives.items():
            if direction not in ("maximize", "minimize"):
                raise ValueError(f"{name}: expected a direction, maximize or minimize, got {direction!r}")
        return objectives

    @field_validator("objectives")
    @classmethod
    def _has_quality(cls, objectives: dict[str, str]) -> dict[str, str]:
        if not set(objectives) & set(QUALITIES):
            raise ValueError(
                f"expected one of {', '.join(QUALITIES)} among the objectives, got {', '.join(objectives)}"
            )
        return objectives

    @field_validator("constraints")
    @classmethod
    def _readable(cls, constraints: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Constraint.parse(text)) for text in constraints)

    @model_validator(mode="before")
    @classmethod
    def _usual_of_several(cls, content: Any) -> Any:
        """What `benchmarks/objectives.py` found best for several objectives, where the file does not say."""
        objectives, pruner = content.get("objectives"), content.get("pruner", {})
        if isinstance(objectives, Mapping) and len(objectives) > 1 and isinstance(pruner, Mapping):
            return {"sampler": "nsga2", **content, "pruner": {"name": "asha", **pruner}}
        return content

    @model_validator(mode="after")
    def _pruner_fits(self) -> Self:
        if len(self.objectives) > 1 and self.pruner.name not in ("asha", "none"):
            raise ValueError(f"pruner.name: {self.pruner.name} knows one objective only; expected asha or none")
        return self

    @model_validator(mode="after")
    def _starts_from_scratch(self) -> Self:
        what = "shared networks" if self.estimate.by == "shared" else "the networks of a calibration"
        if (self.estimate.by == "shared" or self.estimate.calibrated) and self.training.init_from is not None:
            raise ValueError(f"estimate: {what} start from scratch; leave training.init_from out")
        return self

    @classmethod
    def of_stored(cls, content: Mapping[str, Any], name: str) -> Self:
        """The settings of a stored study; one that an older version began reads image files as that did."""
        return cls.parse({**content, "data": {"reading": 1, **content.get("data", {})}}, f"study {name}")

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> tuple[Self, str]:
        """The study of a file (or of a shipped study's name) with ``key.sub=value`` overrides, and the file's text.

        Relative paths, also those of overrides, start at the file's folder; of a shipped study at the working folder.
        """
        file = find_file("studies", path)
        text = read_text(file)
        content = parse_yaml(text, str(file))
        if not isinstance(content, dict):
            raise UserError(f"{file}: expected a mapping of keys, got {type(content).__name__}")
        for override in overrides:
            _apply(content, override)
        config = cls.parse(content, str(file))
        check_new_name(config.name, str(file))
        own = Path(path).suffix or len(Path(path).parts) > 1  # what ships names no paths: they come with ``overrides``
        return config.placed(file.parent if own else Path()), text

    def placed(self, folder: Path) -> Self:
        """The same study for readers in any folder: its relative paths start at ``folder``."""
        space = Path(self.space)
        is_path = space.suffix or len(space.parts) > 1
        return self.model_copy(
            update={
                "space": absolute_path(self.space, folder) if is_path else self.space,
                "data": self.data.placed(folder),
                "training": self.training.placed(folder),
            }
        )

    def with_places_of(self, stored: "StudyConfig") -> Self:
        """This study with the paths of a stored one, where only the place differs, and reading images as that does.

        Paths were once stored as they stood in the study file: what ends with such a path is taken for the same.
        """
        data, training = self.data, self.training
        if data.kind == stored.data.kind:
            data = data.model_copy(update={"source": stored.data.source})
        if stored.data.cache == "off":  # asked for, or because there was no room when the study began
            data = data.model_copy(update={"cache": "off"})
        if "reading" not in data.model_fields_set:
            data = data.model_copy(update={"reading": stored.data.reading})
        if _ends_alike(training.init_from, stored.training.init_from):
            training = training.model_copy(update={"init_from": stored.training.init_from})
        return self.model_copy(update={"data": data, "training": training})

    def on_data(self, summary: "DataSummary") -> Self:
        """This study as it is stored: where decoded images found no room, it never looks for any again."""
        if not summary.no_room:
            return self
        return self.model_copy(update={"data": self.data.model_copy(update={"cache": "off"})})

    @property
    def goals(self) -> Objectives:
        """The objectives, as something that ranks."""
        return Objectives({str(name): str(way) for name, way in self.objectives.items()})

    @property
    def limits(self) -> tuple[Constraint, ...]:
        """The constraints."""
        return tuple(Constraint.parse(text) for text in self.constraints)

    @property
    def known_costs(self) -> tuple[str, ...]:
        """What has to be known of a network before it is trained."""
        asked = {*self.objectives, *(limit.quantity for limit in self.limits)}
        return tuple(name for name in KNOWN_COSTS if name in asked)

    @property
    def first_calibration(self) -> CalibrationConfig | None:
        """What a search begins with."""
        if not self.estimate.calibrated:
            return None
        asked = self.calibrate or CalibrationConfig()
        return asked.truth_alone if self.estimate.by == "predictor" else asked

    def of_candidates(self, estimate: EstimateConfig) -> Self:
        """The study that scores this one's candidates by a cheap estimator."""
        full = self.training.epochs
        epochs = estimate.epochs or (max(1, round(BRIEF_SHARE * full)) if estimate.by == "brief" else full)
        return self.model_copy(
            update={
                "name": self.name + CANDIDATES,
                "objectives": {"val_accuracy": "maximize"}
                | {name: way for name, way in self.objectives.items() if name in KNOWN_COSTS},
                "constraints": tuple(str(limit) for limit in self.limits if limit.known_before),
                "estimate": estimate,
                "training": brief_config(self.training, epochs),
                "trials": estimate.candidates,
                "tracking": None,
            }
        )

    def of_confirmation(self, seed: int) -> Self:
        """The study that trains networks of this one again with another seed: in full, and nobody stops them."""
        seed %= SEEDS
        return self.model_copy(
            update={
                "name": f"{self.name}{CONFIRM}/{seed}",
                "seed": seed,
                "estimate": EstimateConfig(),
                "calibrate": None,
                "objectives": {"val_accuracy": "maximize"},
                "constraints": (),
                "guard": GuardConfig.off(),
                "pruner": PrunerConfig(name="none"),
                "sampler": "random",
            }
        )

    def of_calibration(self, digest: str, calibrate: CalibrationConfig, num_runs: int) -> Self:
        """The study whose trials are the runs of this one's calibration: nobody stops them."""
        return self.model_copy(
            update={
                "name": f"{self.name}{CALIBRATION}/{digest}",
                "estimate": EstimateConfig(),
                "calibrate": calibrate,
                "objectives": {"val_accuracy": "maximize"},
                "constraints": (),
                "guard": GuardConfig.only("non-finite"),
                "pruner": PrunerConfig(name="none"),
                "sampler": "random",
                "trials": num_runs,
                "tracking": None,
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
        other = _flatten(self.of_stored(stored, self.name).to_dict())  # keys that are new have their defaults
        return [
            f"{key}: stored {other.get(key)!r}, given {given.get(key)!r}"
            for key in sorted(given.keys() | other.keys())
            if given.get(key) != other.get(key) and key not in (*RUNTIME_KEYS, *_COMPARED_ELSEWHERE)
        ]


def _ends_alike(given: str | None, stored: str | None) -> bool:
    """Whether a stored path is relative and ``given`` ends with it."""
    if given is None or stored is None or Path(stored).is_absolute():
        return False
    parts = Path(stored).parts
    return Path(given).parts[-len(parts) :] == parts


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
