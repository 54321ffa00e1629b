"""What is trained: tasks whose unharmed runs end well, and ways in which a run is harmed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.guarding import sets
from nas.architecture import Architecture, Backbone, StageFusion
from nas.space.landmarks import LANDMARKS, landmark_in
from nas.space.space import SearchSpace
from nas.training.config import DataConfig, TrainingConfig

MICRO = Backbone(name="resnet_micro", stem="small")
SMALL18 = Backbone(name="resnet18", stem="small")
P2_CBAM = StageFusion(pattern="p2", attention="cbam")
P4_WIDE = StageFusion(pattern="p4", attention="cbam", skip_attention="se", gamma_skip_init=3, gamma_residual_init=3.1)
SOME = ("plain", "dual-default", "se-post")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, backbone and the unharmed recipe."""

    name: str
    data: DataConfig
    recipe: Mapping[str, Any]
    backbone: Backbone = MICRO
    seeds: tuple[int, ...] = (0, 1)
    """Those that rules and thresholds were adjusted on."""
    held_out: tuple[int, ...] = (10, 11)
    """Those that were judged once, after the last change."""
    landmarks: tuple[str, ...] = tuple(LANDMARKS)
    num_random: int = 6
    """Architectures drawn from the space `full`, others for each seed."""
    harms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Changes of the recipe by name; each is tried on `SOME`."""

    @property
    def training(self) -> TrainingConfig:
        """The unharmed recipe."""
        return TrainingConfig.parse({"device": "cpu", "threads": 1, **self.recipe}, "benchmark")


def by_function(name: str) -> DataConfig:
    """A set of `benchmarks/guarding/sets.py`."""
    return DataConfig(source=f"python:{sets.__file__}:{name}", recipe="digits")


def faster(rate: float = 0.1, **more: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Learning rates that are too high, and other harms."""
    return {f"lr × {factor}": {"learning_rate": rate * factor} for factor in (10, 30, 100)} | more


HARD = faster(
    momentum={"momentum": 0.99, "learning_rate": 1.0}, constant={"schedule": "constant", "learning_rate": 3.0}
)


def tasks(root: Path) -> dict[str, Task]:
    """All tasks by name; files that they need are in ``root``."""
    every = (
        Task(name="digits, 8 epochs", data=DataConfig(num_train=768), recipe={"epochs": 8}, harms=HARD),
        Task(name="digits, 40 epochs", data=DataConfig(num_train=512), recipe={"epochs": 40}, harms=HARD),
        Task(name="digits, 100 epochs", data=DataConfig(num_train=300), recipe={"epochs": 100}, harms=faster()),
        Task(name="few, 8 epochs", data=DataConfig(num_train=300), recipe={"epochs": 8}, harms=faster()),
        Task(name="20 a class", data=DataConfig(num_train=200), recipe={"epochs": 40}, harms=faster()),
        Task(
            name="noisy", data=DataConfig(source="noisy-digits", num_train=512), recipe={"epochs": 24}, harms=faster()
        ),
        Task(
            name="cluttered",
            data=DataConfig(source="cluttered-digits", num_train=1536),
            recipe={"epochs": 8},
            seeds=(0,),
            held_out=(10,),
            num_random=3,
            harms=faster(),
        ),
        Task(
            name="fashion",
            data=DataConfig(source="fashion-mnist", num_train=640, val_fraction=0.01),
            recipe={"epochs": 8},
            seeds=(0,),
            held_out=(10,),
            num_random=3,
            harms=faster(),
        ),
        Task(
            name="folder, 64 px",
            data=DataConfig(source=f"folder:{root / 'jpegs'}", image_size=64, cache=str(root / "cache")),
            recipe={"epochs": 10, "batch_size": 32},
            seeds=(0,),
            held_out=(10,),
            num_random=2,
            landmarks=SOME,
            harms=faster(),
        ),
        Task(name="long-tailed", data=by_function("long_tailed"), recipe={"epochs": 24}, harms=faster()),
        Task(name="95 to 5", data=by_function("unequal"), recipe={"epochs": 24}, num_random=3),
        Task(name="40 % wrong labels", data=by_function("wrong_labels"), recipe={"epochs": 24}, harms=faster()),
        Task(
            name="batch of 4",
            data=DataConfig(num_train=256),
            recipe={"epochs": 10, "batch_size": 4, "learning_rate": 0.02},
            num_random=3,
            harms=faster(0.02),
        ),
        Task(
            name="batch of 8",
            data=DataConfig(num_train=300),
            recipe={"epochs": 20, "batch_size": 8, "learning_rate": 0.05},
            num_random=3,
        ),
        Task(
            name="bf16",
            data=DataConfig(num_train=512),
            recipe={"epochs": 16, "precision": "bf16-mixed"},
            num_random=3,
            harms=faster(),
        ),
        Task(
            name="constant rate",
            data=DataConfig(num_train=512),
            recipe={"epochs": 24, "schedule": "constant", "learning_rate": 0.05, "momentum": 0.0, "warmup_epochs": 0},
            num_random=3,
        ),
        Task(
            name="clipped",
            data=DataConfig(num_train=512),
            recipe={"epochs": 24, "clip_grad_norm": 1.0, "label_smoothing": 0.1},
            num_random=3,
            harms=faster(),
        ),
        Task(
            name="fine-tuning",
            data=DataConfig(source="noisy-digits", num_train=300),
            recipe={"epochs": 12, "learning_rate": 0.02, "init_from": str(root / "plain.pt")},
            num_random=3,
            harms=faster(0.02),
        ),
        Task(
            name="resnet18",
            data=DataConfig(num_train=256),
            recipe={"epochs": 12, "batch_size": 32},
            backbone=SMALL18,
            num_random=4,
            harms=faster(),
        ),
        Task(
            name="resnet50",
            data=DataConfig(image_size=32, num_train=256),
            recipe={"epochs": 6, "batch_size": 16, "learning_rate": 0.05, "zero_init_branches": True},
            backbone=Backbone(name="resnet50", stem="imagenet"),
            seeds=(0,),
            held_out=(10,),
            landmarks=SOME,
            num_random=1,
            harms={"lr × 30": {"learning_rate": 1.5}},
        ),
    )
    return {task.name: task for task in every}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration of a task."""

    task: Task
    group: str
    name: str
    architecture: Architecture
    training: TrainingConfig

    def key(self, seed: int) -> str:
        """Of one run."""
        return f"{self.task.name} / {self.group} / {self.name} / {seed}"


def cases(task: Task, seed: int, *, num_classes: int, in_chans: int) -> Iterator[Case]:
    """The unharmed ones first."""
    space = SearchSpace.load("full").on(backbone=task.backbone, num_classes=num_classes, in_chans=in_chans)
    random, recipe = np.random.default_rng([7, seed]), task.training
    landmarks = {name: landmark_in(space, name) for name in LANDMARKS}

    def case(group: str, name: str, arch: Architecture, **changes: Any) -> Case:
        training = TrainingConfig.parse({**recipe.model_dump(mode="json"), **changes}, group)
        return Case(task=task, group=group, name=name, architecture=arch, training=training)

    def everywhere(stage: StageFusion) -> Architecture:
        stages: Sequence[StageFusion] = [stage] * 4
        return Architecture(backbone=task.backbone, num_classes=num_classes, in_chans=in_chans, stages=tuple(stages))

    yield from (case("unharmed", name, landmarks[name]) for name in task.landmarks)
    yield from (case("unharmed", f"full-{i}", space.sample(random)) for i in range(task.num_random))
    for group, changes in task.harms.items():
        yield from (case(group, name, landmarks[name], **changes) for name in SOME)
    if task.harms:
        yield case("γ_s = 3, p4 everywhere", "p4-wide", everywhere(P4_WIDE))
        yield case("textbook p2-cbam everywhere", "p2-cbam", everywhere(P2_CBAM))
