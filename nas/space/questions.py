"""What is asked for an architecture: names of questions, their options and their order.

A candidate is drawn by asking one question after another. A question has a name (``stage2.attention``,
``all.attention`` for a field that is uniform over the stages, ``norm``, ``fused_stages``, ``stage2.block0`` where
each block may be fused or plain) and a tuple of options. Only what changes the network is asked: no reduction
beside ``eca``, no second reduction with the same hidden width, nothing about a plain stage, nothing that has one
option. The options under one name never change, because Optuna's categorical distributions must not; where they
depend on an earlier answer, the name gets a suffix (``stage2.reduction.p3``, ``stage2.lambda_init.fixed``).
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

from nas.architecture import NormName, PatternName, StageFusion
from nas.backbones import STAGES, BackboneShape
from nas.space.block_sets import Blocks, BlockSets, representative
from nas.space.vocabulary import Answers, Choose, FieldName, FusedStages, Granularity, Option, StageChoices

_Place = tuple[int, PatternName, Blocks]
"""Stage, pattern and the blocks that carry it."""

# A field is asked once those are known that decide whether it changes the network.
_ORDER: tuple[FieldName, ...] = (
    "attention",
    "learnable",
    "lambda_init",
    "gamma_skip_init",
    "gamma_residual_init",
    "skip_attention",
    "reduction",
    "gate_init",
)


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The questions of a space about its normalisation, its placement of attention, its stages and their blocks.

    The placement says which stages carry attention, one flag a stage. A stage is a number from 0.
    """

    norm: tuple[NormName, ...]
    shape: BackboneShape
    granularity: Granularity
    stages: tuple[StageChoices, ...]
    uniform: tuple[FieldName, ...]
    fused_stages: FusedStages

    def answer(self, choose: Choose) -> tuple[NormName, tuple[StageFusion, ...]]:
        """The normalisation and the fusion of each stage: ``choose(name, options)`` answers each question once.

        Raises `ValueError` for an answer that is no option.
        """
        answers: Answers = {}

        def ask(name: str, options: tuple[Option, ...]) -> Option:
            if len(options) == 1:
                return options[0]
            if name not in answers:
                answer = choose(name, options)
                if answer not in options:
                    raise ValueError(f"{name}: expected one of {options}, got {answer!r}")
                answers[name] = answer
            return answers[name]

        norms = {str(norm): norm for norm in self.norm}
        norm = norms[str(ask("norm", self.norm))]
        placement = self.placements[0]
        if self.asks_placement:
            labels = {label(p): p for p in self.placements}
            placement = labels[str(ask("fused_stages", tuple(labels)))]
        stages = tuple(
            self.fusion(s, ask, partial(self.blocks.ask, s, ask)) if self.is_asked(s, placement) else StageFusion()
            for s in range(STAGES)
        )
        return norm, stages

    @cached_property
    def possible_placements(self) -> tuple[tuple[bool, ...], ...]:
        """All that the patterns of the stages allow, few fused stages first; one flag a stage."""
        flags = [sorted({pattern != "none" for pattern in choices.drawn_patterns}) for choices in self.stages]
        return tuple(sorted(itertools.product(*flags), key=sum))

    @cached_property
    def placements(self) -> tuple[tuple[bool, ...], ...]:
        """Those that satisfy ``fused_stages``."""
        return tuple(p for p in self.possible_placements if self.fused_stages.min <= sum(p) <= self.fused_stages.max)

    @property
    def asks_placement(self) -> bool:
        """Whether the placement is a question of its own; else it follows from the patterns."""
        return self.placements != self.possible_placements

    def is_asked(self, stage: int, placement: tuple[bool, ...]) -> bool:
        """Whether anything is asked about a stage under a placement."""
        return placement[stage] or not self.asks_placement

    @cached_property
    def blocks(self) -> BlockSets:
        """The questions about single blocks."""
        return BlockSets(self.shape.layers if self.granularity == "block" else (1,) * STAGES)

    def fusion(self, stage: int, choose: Choose, choose_blocks: Callable[[], Blocks]) -> StageFusion:
        """Draw the fusion of a stage (from 0), in the spelling of the space file."""
        fields: dict[str, Any] = {"pattern": self._ask(stage, "pattern", {}, choose)}
        if fields["pattern"] != "none":
            fields["blocks"] = choose_blocks()
        for field in _ORDER:
            if field in _active_fields(tuple(fields.items())):
                fields[field] = self._ask(stage, field, fields, choose)
        return StageFusion(**fields)

    def fusion_in(self, stage: int, blocks: Blocks, choose: Choose) -> StageFusion:
        """Draw a fusion that these blocks carry."""
        return self.fusion(stage, choose, lambda: blocks)

    def _ask(self, stage: int, field: FieldName, known: Mapping[str, Any], choose: Choose) -> Option:
        options, suffix = self._options(stage, field, known)
        if len(options) == 1:
            return options[0]
        where = "all" if field in self.uniform else f"stage{stage + 1}"
        return choose(f"{where}.{field}{suffix}", options)

    def _options(self, stage: int, field: FieldName, known: Mapping[str, Any]) -> tuple[tuple[Option, ...], str]:
        """The options of a field beside the fields that are known, and the suffix of the question's name."""
        choices = self.stages[stage]
        if field == "pattern":
            patterns = choices.drawn_patterns
            return tuple(p for p in patterns if p != "none") if self.asks_placement else patterns, ""
        if field == "reduction":
            here = self._reductions[stage, known["pattern"], representative(known["blocks"])]
            if here == self._reductions[stage, "p1", None]:
                return here, ""
            return here, ".p3" if here == self._reductions[stage, "p3", None] else ".p3.first"
        if field == "learnable" and known["pattern"] != "p4" and not any(choices.lambda_init):
            return (True,), ""
        if field == "lambda_init" and 0 in choices.lambda_init and not known["learnable"]:
            return tuple(value for value in choices.lambda_init if value > 0), ".fixed"
        return choices.options(field), ""

    @cached_property
    def _reductions(self) -> dict[_Place, tuple[int, ...]]:
        """For each stage, pattern and set of blocks the reductions that differ in a hidden width, first spellings."""
        places: list[_Place] = [
            (stage, pattern, blocks)
            for stage in range(STAGES)
            for pattern in ("p1", "p2", "p3", "p4")
            for blocks in self.blocks.representatives(stage)
        ]
        drawn = [place for place in places if place[1] in self.stages[place[0]].drawn_patterns]
        kept: dict[_Place, tuple[int, ...]] = {}
        for place in places:
            together = drawn if "reduction" in self.uniform else [place]
            spellings: dict[tuple[int, ...], int] = {}
            for reduction in self.stages[place[0]].reduction:
                spellings.setdefault(tuple(self._canonical_reduction(p, reduction) for p in together), reduction)
            kept[place] = tuple(spellings.values())
        return kept

    def _canonical_reduction(self, place: _Place, reduction: int) -> int:
        stage, pattern, blocks = place
        fusion = StageFusion(pattern=pattern, attention="se", reduction=reduction, blocks=blocks)
        return fusion.canonical(self.shape, stage).reduction


@cache
def _active_fields(fields: tuple[tuple[str, Any], ...]) -> tuple[str, ...]:
    """Which fields of a fusion matter, as far as it is known: asked of a few prefixes thousands of times."""
    return StageFusion.model_construct(**dict(fields)).active_fields


def label(placement: tuple[bool, ...]) -> str:
    """``2+4`` for a placement in the second and fourth stage."""
    return "+".join(str(stage) for stage, fused in enumerate(placement, start=1) if fused) or "none"
