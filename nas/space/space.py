"""The search space: which architectures a study may draw, how many they are, and how one is drawn."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nas.architecture import SCHEMA, Architecture, Backbone, NormName, StageFusion
from nas.backbones import STAGES
from nas.documents import read_document
from nas.errors import UserError
from nas.space.counting import Networks
from nas.space.files import find_file, read_space
from nas.space.questions import Questions, label
from nas.space.vocabulary import FIELDS, Answers, Choose, FieldName, FusedStages, Granularity, Option, StageChoices

if TYPE_CHECKING:
    import numpy as np

MAX_LISTED = 1_000_000
"""Largest space that `SearchSpace.architectures` lists."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """A set of architectures on one backbone; made by `load` or `from_dict`, which check it."""

    name: str
    """For people."""
    description: str
    """One line for people."""
    backbone: Backbone
    """The plain network."""
    num_classes: int
    """Classes of the task."""
    in_chans: int
    """Channels of an image."""
    norm: tuple[NormName, ...]
    """Normalisation layers to choose from."""
    granularity: Granularity
    """Whether a fusion is of a whole stage, or each of its blocks carries it or not."""
    stages: tuple[StageChoices, ...]
    """The options of each of the four stages."""
    uniform: tuple[FieldName, ...]
    """Fields that have one value in all stages."""
    fused_stages: FusedStages
    """How many stages carry attention."""

    @classmethod
    def load(cls, reference: str | Path, *, relative_to: Path | None = None) -> Self:
        """Read a shipped space by its name or any space file by its path.

        A relative path starts at the folder ``relative_to``, or at the working directory. Raises `UserError`.
        """
        path = find_file("search_spaces", reference, relative_to)
        return cls.from_dict(read_document(path), str(path), name=path.stem, folder=path.parent)

    @classmethod
    def from_dict(
        cls,
        content: object,
        source: str = "search space",
        *,
        name: str = "custom",
        folder: Path | None = None,
    ) -> Self:
        """The space that a file's content describes.

        ``source`` begins every `UserError`, ``name`` is used where the content has none, and a path under
        ``extends`` starts at ``folder``.
        """
        file = read_space(content, source, folder)
        space = cls(
            name=file.name or name,
            description=file.description,
            backbone=file.backbone,
            num_classes=file.num_classes,
            in_chans=file.in_chans,
            norm=file.norm,
            granularity=file.granularity,
            stages=file.stage_choices(source),
            uniform=tuple(field for field in FIELDS if field in file.constraints.uniform),
            fused_stages=file.constraints.fused_stages,
        )
        if not space.questions.placements:
            wanted, possible = space.fused_stages, [sum(p) for p in space.questions.possible_placements]
            raise UserError(
                f"{source}: constraints.fused_stages: expected {wanted.min} to {wanted.max} stages with "
                f"attention, but the patterns allow {min(possible)} to {max(possible)}"
            )
        return space

    def on(
        self, *, backbone: Backbone | None = None, num_classes: int | None = None, in_chans: int | None = None
    ) -> Self:
        """The same choices on another backbone or for another task; what is None stays."""
        return replace(
            self,
            backbone=self.backbone if backbone is None else backbone,
            num_classes=self.num_classes if num_classes is None else num_classes,
            in_chans=self.in_chans if in_chans is None else in_chans,
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of a space file without ``extends``, as JSON can hold it; `from_dict` reads it back."""
        shared = [f for f in FIELDS if len({choices.options(f) for choices in self.stages}) == 1]
        return {
            "schema": SCHEMA,
            "name": self.name,
            "description": self.description,
            "backbone": self.backbone.model_dump(),
            "num_classes": self.num_classes,
            "in_chans": self.in_chans,
            "norm": list(self.norm),
            **({} if self.granularity == "stage" else {"granularity": self.granularity}),  # digests of old stay
            "choices": _options_dict(self.stages[0], shared),
            "stages": {
                str(number): _options_dict(choices, [f for f in FIELDS if f not in shared])
                for number, choices in enumerate(self.stages, start=1)
                if len(shared) < len(FIELDS)
            },
            "constraints": {"uniform": list(self.uniform), "fused_stages": self.fused_stages.model_dump()},
        }

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of `to_dict` without name and description."""
        content = {key: value for key, value in self.to_dict().items() if key not in ("name", "description")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def questions(self) -> Questions:
        """What is asked for an architecture."""
        return Questions(
            norm=self.norm,
            shape=self.backbone.shape,
            granularity=self.granularity,
            stages=self.stages,
            uniform=self.uniform,
            fused_stages=self.fused_stages,
        )

    @cached_property
    def _networks(self) -> Networks:
        return Networks(self.questions)

    def _architecture(self, norm: NormName, stages: tuple[StageFusion, ...]) -> Architecture:
        return Architecture(
            backbone=self.backbone, num_classes=self.num_classes, in_chans=self.in_chans, norm=norm, stages=stages
        )

    def decode(self, choose: Choose) -> Architecture:
        """Draw one architecture: ``choose(name, options)`` answers each question.

        Constraints hold by construction. A field that is uniform over the stages is asked once.
        Raises `ValueError` for an answer that is no option.
        """
        norm, stages = self.questions.answer(choose)
        return self._architecture(norm, stages)

    def encode(self, architecture: Architecture) -> Answers | None:
        """The answers with which `decode` gives this network; None where the space does not hold it."""
        target = architecture.canonical()
        task = (target.backbone, target.num_classes, target.in_chans)
        placement = tuple(not stage.is_off for stage in target.stages)
        if task != (self.backbone, self.num_classes, self.in_chans) or target.norm not in self.norm:
            return None
        if placement not in self.questions.placements:
            return None
        first: Answers = {} if len(self.norm) == 1 else {"norm": target.norm}
        if self.questions.asks_placement and len(self.questions.placements) > 1:
            first["fused_stages"] = label(placement)
        ways = (self._networks.ways_to(stage, fusion) for stage, fusion in enumerate(target.stages))
        return next((merged for way in itertools.product(*ways) if (merged := _merged(first, *way)) is not None), None)

    def sample(self, rng: "np.random.Generator") -> Architecture:
        """One random architecture: every question is answered with equal probability for each option."""
        return self.decode(lambda _, options: options[int(rng.integers(len(options)))])

    def choices(self) -> dict[str, tuple[Option, ...]]:
        """Every question that `decode` can ask, with its options."""
        return dict(self._networks.choices)

    def joint_choices(self) -> tuple[str, ...]:
        """The questions that every candidate is asked, whatever the other answers."""
        asked = self.questions
        always = ("norm", "fused_stages") if asked.asks_placement else ("norm",)
        patterns = () if asked.asks_placement else tuple(f"stage{n}.pattern" for n in range(1, STAGES + 1))
        fused = (stage for stage in range(STAGES) if all(placement[stage] for placement in asked.placements))
        blocks = (name for stage in fused for name in asked.blocks.questions(stage)[:-1])  # the last can be settled
        return tuple(name for name in (*always, *patterns, *blocks) if name in self._networks.choices)

    def __contains__(self, architecture: object) -> bool:
        return isinstance(architecture, Architecture) and self.encode(architecture) is not None

    @cached_property
    def size(self) -> int:
        """How many different networks the space holds."""
        return len(self.norm) * sum(self._networks.count(placement) for placement in self.questions.placements)

    def architectures(self) -> Iterator[Architecture]:
        """Every network once, in its canonical form; a `UserError` where there are more than a million."""
        if self.size > MAX_LISTED:
            raise UserError(
                f"search space {self.name}: {self.size:,} architectures are too many to list "
                f"(at most {MAX_LISTED:,}); draw samples instead"
            )
        return (
            self._architecture(norm, stages)
            for norm in self.norm
            for placement in self.questions.placements
            for stages in self._networks.combinations(placement)
        )


def _merged(*parts: Answers) -> Answers | None:
    """All answers together; None where two disagree."""
    merged: Answers = {}
    for part in parts:
        if any(merged.get(name, answer) != answer for name, answer in part.items()):
            return None
        merged |= part
    return merged


def _options_dict(choices: StageChoices, fields: list[FieldName]) -> dict[str, list[Option]]:
    return {field: list(choices.options(field)) for field in fields if choices.options(field)}
