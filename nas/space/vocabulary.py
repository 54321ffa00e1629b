"""The content of a search-space file: options for each field, per stage, and constraints between stages."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from nas.architecture import (
    ATTENTIONS,
    GAMMA_MARGIN,
    AttentionName,
    Backbone,
    GateInit,
    NormName,
    PatternName,
    SkipAttentionName,
)
from nas.backbones import MICRO, STAGES
from nas.documents import Document
from nas.errors import UserError

Option = str | int | float | bool
Choose = Callable[[str, tuple[Option, ...]], Option]
"""Answers a question: takes its name and its options, returns one of the options."""
Answers = dict[str, Option]
"""Options by the name of the question."""
T = TypeVar("T")

FieldName = Literal[
    "pattern",
    "attention",
    "skip_attention",
    "reduction",
    "lambda_init",
    "gamma_skip_init",
    "gamma_residual_init",
    "learnable",
    "gate_init",
]
FIELDS: tuple[FieldName, ...] = get_args(FieldName)
Granularity = Literal["stage", "block"]

_Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
_Strength = Annotated[float, Field(strict=True, ge=0)]
_StageNumber = Annotated[int, Field(ge=1, le=STAGES)]
_LAMBDA_PATTERNS = {"p1", "p2", "p3"}


def _without_repetition(options: tuple[T, ...]) -> tuple[T, ...]:
    for option in options:
        if options.count(option) > 1:
            raise ValueError(f"the option {option!r} is given twice")
    return options


class StageChoices(Document):
    """The options of one stage, or of all; a field that is left out has the default of `StageFusion`."""

    pattern: tuple[PatternName, ...] = Field(default=(), validate_default=False)
    """Fusion patterns."""
    attention: tuple[AttentionName, ...] = Field(default=(), validate_default=False)
    """Attention modules; in p4 those on the residual branch."""
    skip_attention: tuple[SkipAttentionName, ...] = ("eca",)
    """p4: light attention modules on the skip path."""
    reduction: tuple[Annotated[StrictInt, Field(ge=1)], ...] = (16,)
    """Divisors of the channels; those that give one hidden width in a stage are one option there."""
    lambda_init: tuple[_Fraction, ...] = (1.0,)
    """p1-p3: λ at the start; a constant λ of 0 is drawn as pattern `none`."""
    gamma_skip_init: tuple[_Strength, ...] = (0.0,)
    """p4: strength on the skip path at the start."""
    gamma_residual_init: tuple[_Strength, ...] = (0.1,)
    """p4: strength on the residual branch at the start; the smallest is above every gamma_skip_init."""
    learnable: tuple[StrictBool, ...] = (False,)
    """Whether λ or γ are learned."""
    gate_init: tuple[GateInit, ...] = ("textbook",)
    """How the gates start."""

    @field_validator("*", mode="before")
    @classmethod
    def _some(cls, options: object) -> object:
        if not isinstance(options, list | tuple):
            raise ValueError(f"expected a list of options, got {options!r}")
        if not options:
            raise ValueError("expected at least one option, got an empty list")
        return options

    @field_validator("*")
    @classmethod
    def _distinct(cls, options: tuple[Option, ...]) -> tuple[Option, ...]:
        return _without_repetition(options)

    @property
    def given(self) -> dict[str, tuple[Option, ...]]:
        """The fields that the file names."""
        return {name: getattr(self, name) for name in FIELDS if name in self.model_fields_set}

    def options(self, field: FieldName) -> tuple[Option, ...]:
        """The options of a field, in file order."""
        return getattr(self, field)  # type: ignore[no-any-return]  # one attribute for each FieldName

    @property
    def has_constant_zero(self) -> bool:
        """Whether the options hold a λ that is fixed at 0, which is the plain block."""
        return 0 in self.lambda_init and False in self.learnable and not _LAMBDA_PATTERNS.isdisjoint(self.pattern)

    @property
    def drawn_patterns(self) -> tuple[PatternName, ...]:
        """The patterns to draw from: each but `none` fuses the stage, and a constant λ of 0 is `none`."""
        always_off = not any(self.lambda_init) and True not in self.learnable
        patterns = tuple(p for p in self.pattern if not (always_off and p in _LAMBDA_PATTERNS))
        return (*patterns, "none") if self.has_constant_zero and "none" not in patterns else patterns


class FusedStages(Document):
    """How many stages carry attention."""

    min: Annotated[StrictInt, Field(ge=0, le=STAGES)] = 0
    """At least so many."""
    max: Annotated[StrictInt, Field(ge=0, le=STAGES)] = STAGES
    """At most so many."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min <= max must hold, got {self.min} and {self.max}")
        return self


class Constraints(Document):
    """What holds between the stages of every candidate."""

    uniform: tuple[FieldName, ...] = ()
    """Fields that have one value in all stages."""
    fused_stages: FusedStages = FusedStages()
    """How many stages carry attention."""

    @field_validator("uniform")
    @classmethod
    def _distinct(cls, uniform: tuple[FieldName, ...]) -> tuple[FieldName, ...]:
        return _without_repetition(uniform)


class SpaceFile(Document):
    """A search-space file without its `schema` key."""

    name: str | None = None
    """Shown in reports; the file's name where it is left out."""
    description: str = ""
    """One line for people."""
    extends: str | None = None
    """A shipped space, or a path from this file: what it says holds unless this file says otherwise."""
    backbone: Backbone = Backbone(name=MICRO, stem="small")
    """The plain network; a study overrides it."""
    num_classes: Annotated[StrictInt, Field(ge=1)] = 10
    """Classes of the task; a study overrides it."""
    in_chans: Annotated[StrictInt, Field(ge=1)] = 3
    """Channels of an image; a study overrides it."""
    norm: tuple[NormName, ...] = ("batch",)
    """Normalisation layers of the whole network."""
    granularity: Granularity = "stage"
    """`stage`: all blocks of a fused stage carry its fusion. `block`: any of them do, at least one."""
    choices: StageChoices = StageChoices()
    """Options for all stages."""
    stages: dict[_StageNumber, StageChoices] = Field(default_factory=dict)
    """Options of single stages, by number from 1, which replace those for all."""
    constraints: Constraints = Constraints()
    """What holds between stages."""

    @field_validator("norm")
    @classmethod
    def _norms(cls, norm: tuple[NormName, ...]) -> tuple[NormName, ...]:
        if not norm:
            raise ValueError("expected at least one option, got an empty list")
        return _without_repetition(norm)

    def on_top_of(self, parent: "SpaceFile") -> "SpaceFile":
        """This file with everything that it leaves out taken from ``parent``.

        A field under `choices` here also replaces what the parent says about it for single stages.
        """
        stages = {}
        for number in sorted({*parent.stages, *self.stages}):
            inherited = parent.stages.get(number, StageChoices()).given
            kept = {name: options for name, options in inherited.items() if name not in self.choices.given}
            stages[number] = StageChoices(**{**kept, **self.stages.get(number, StageChoices()).given})
        update: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set - {"extends"}}
        update["choices"] = parent.choices.model_copy(update=self.choices.given)
        update["stages"] = stages
        update["constraints"] = parent.constraints.model_copy(
            update={name: getattr(self.constraints, name) for name in self.constraints.model_fields_set}
        )
        return parent.model_copy(update=update)

    def stage_choices(self, source: str) -> tuple[StageChoices, ...]:
        """The options of each of the four stages, checked; ``source`` begins every `UserError`."""
        stages = tuple(
            self.choices.model_copy(update=self.stages.get(number, StageChoices()).given)
            for number in range(1, STAGES + 1)
        )
        for number, choices in enumerate(stages, start=1):
            self._check_stage(number, choices, source)
        self._check_uniform(stages, source)
        return stages

    def _key(self, number: int, field: FieldName) -> str:
        """Where the file gives (or should give) the options of a field in a stage."""
        own = self.stages.get(number, StageChoices()).given
        return f"stages.{number}.{field}" if field in own else f"choices.{field}"

    def _check_stage(self, number: int, choices: StageChoices, source: str) -> None:
        if not choices.pattern:
            raise UserError(f"{source}: {self._key(number, 'pattern')}: this key is missing")
        if not choices.attention and set(choices.pattern) != {"none"}:
            raise UserError(
                f"{source}: {self._key(number, 'attention')}: this key is missing; "
                f"the patterns need at least one of {', '.join(ATTENTIONS)}"
            )
        margin = GAMMA_MARGIN if True in choices.learnable else 0
        by = f" by more than {margin:g}" if margin else ""
        skip, residual = max(choices.gamma_skip_init), min(choices.gamma_residual_init)
        if "p4" in choices.pattern and residual - skip <= margin:
            raise UserError(
                f"{source}: {self._key(number, 'gamma_skip_init')}: p4 needs every gamma_skip_init below "
                f"every gamma_residual_init{by}, got {skip:g} and {residual:g}"
            )

    def _check_uniform(self, stages: tuple[StageChoices, ...], source: str) -> None:
        uniform = self.constraints.uniform
        for number, own in sorted(self.stages.items()):
            for field in uniform:
                if field in own.given:
                    raise UserError(
                        f"{source}: stages.{number}.{field}: constraints.uniform names {field}, "
                        "so its options belong under choices"
                    )
        if "pattern" in uniform and self.constraints.fused_stages != FusedStages():
            raise UserError(
                f"{source}: constraints.fused_stages: cannot be combined with a uniform pattern, "
                "which fuses all stages or none"
            )
        bound = [field for field in uniform if field in ("pattern", "lambda_init", "learnable")]
        for number, choices in enumerate(stages, start=1):
            if bound and choices.has_constant_zero:
                raise UserError(
                    f"{source}: {self._key(number, 'lambda_init')}: 0 beside learnable: false is pattern "
                    f"none while {bound[0]} is uniform; leave out 0, or set learnable: [true]"
                )
