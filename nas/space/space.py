"""The search space: which architectures a study may draw, how many they are, and how one is drawn.

A candidate is drawn by asking one question after another. A question has a name (``stage2.attention``,
``all.attention`` for a field that is uniform over the stages, ``norm``, ``fused_stages``, ``stage2.block0`` where
each block may be fused or plain) and a tuple of options. Only what changes the network is asked: no reduction
beside ``eca``, no second reduction with the same hidden width, nothing about a plain stage, nothing that has one
option. The options under one name never change, because Optuna's categorical distributions must not; where they
depend on an earlier answer, the name gets a suffix (``stage2.reduction.p3``, ``stage2.lambda_init.fixed``).
"""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nas.architecture import SCHEMA, Architecture, Backbone, NormName, PatternName, StageFusion
from nas.backbones import STAGES
from nas.documents import read_document
from nas.errors import UserError
from nas.space.files import find_file
from nas.space.vocabulary import FIELDS, FieldName, FusedStages, Granularity, Option, SpaceFile, StageChoices

if TYPE_CHECKING:
    import numpy as np

Choose = Callable[[str, tuple[Option, ...]], Option]
"""Answers a question: takes its name and its options, returns one of the options."""

Answers = dict[str, Option]
Blocks = tuple[int, ...] | None
"""Blocks of a stage, from 0; None: all."""
_Place = tuple[int, PatternName, Blocks]
"""Stage, pattern and the blocks that carry it."""

MAX_LISTED = 1_000_000
"""Largest space that `SearchSpace.architectures` lists."""

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

Result = TypeVar("Result")


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
        file = _inherited(content, source, folder, seen=())
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
        if not space._placements:
            wanted, possible = space.fused_stages, [sum(p) for p in space._possible_placements]
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

    def decode(self, choose: Choose) -> Architecture:
        """Draw one architecture: ``choose(name, options)`` answers each question.

        Constraints hold by construction. A field that is uniform over the stages is asked once.
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

        norm = ask("norm", self.norm)
        placement = self._placements[0]
        if self._asks_placement:
            labels = {_label(p): p for p in self._placements}
            placement = labels[str(ask("fused_stages", tuple(labels)))]
        stages = tuple(
            self._fusion(s, ask, partial(self._ask_blocks, s, ask)) if self._is_asked(s, placement) else StageFusion()
            for s in range(STAGES)
        )
        return Architecture(
            backbone=self.backbone,
            num_classes=self.num_classes,
            in_chans=self.in_chans,
            norm=norm,
            stages=stages,
        )

    def encode(self, architecture: Architecture) -> Answers | None:
        """The answers with which `decode` gives this network; None where the space does not hold it."""
        target = architecture.canonical()
        task = (target.backbone, target.num_classes, target.in_chans)
        placement = tuple(not stage.is_off for stage in target.stages)
        if task != (self.backbone, self.num_classes, self.in_chans) or target.norm not in self.norm:
            return None
        if placement not in self._placements:
            return None
        first: Answers = {} if len(self.norm) == 1 else {"norm": target.norm}
        if self._asks_placement and len(self._placements) > 1:
            first["fused_stages"] = _label(placement)
        ways = (self._ways_to(stage, fusion) for stage, fusion in enumerate(target.stages))
        return next((merged for way in itertools.product(*ways) if (merged := _merged(first, *way)) is not None), None)

    def sample(self, rng: "np.random.Generator") -> Architecture:
        """One random architecture: every question is answered with equal probability for each option."""
        return self.decode(lambda _, options: options[int(rng.integers(len(options)))])

    def choices(self) -> dict[str, tuple[Option, ...]]:
        """Every question that `decode` can ask, with its options."""
        return dict(self._explored[1])

    def joint_choices(self) -> tuple[str, ...]:
        """The questions that every candidate is asked, whatever the other answers."""
        always = ("norm", "fused_stages") if self._asks_placement else ("norm",)
        patterns = () if self._asks_placement else tuple(f"stage{n}.pattern" for n in range(1, STAGES + 1))
        fused = (stage for stage in range(STAGES) if all(placement[stage] for placement in self._placements))
        blocks = (name for stage in fused for name in self._block_questions(stage)[:-1])  # the last can be settled
        return tuple(name for name in (*always, *patterns, *blocks) if name in self._explored[1])

    def __contains__(self, architecture: object) -> bool:
        return isinstance(architecture, Architecture) and self.encode(architecture) is not None

    @cached_property
    def size(self) -> int:
        """How many different networks the space holds."""
        return len(self.norm) * sum(self._count(placement) for placement in self._placements)

    def architectures(self) -> Iterator[Architecture]:
        """Every network once, in its canonical form; a `UserError` where there are more than a million."""
        if self.size > MAX_LISTED:
            raise UserError(
                f"search space {self.name}: {self.size:,} architectures are too many to list "
                f"(at most {MAX_LISTED:,}); draw samples instead"
            )
        return (
            Architecture(
                backbone=self.backbone,
                num_classes=self.num_classes,
                in_chans=self.in_chans,
                norm=norm,
                stages=stages,
            )
            for norm in self.norm
            for placement in self._placements
            for stages in self._combinations(placement, self._every_uniform)
        )

    # Placements: which stages carry attention.

    @cached_property
    def _possible_placements(self) -> tuple[tuple[bool, ...], ...]:
        """All that the patterns of the stages allow, few fused stages first; one flag a stage."""
        flags = [sorted({pattern != "none" for pattern in choices.drawn_patterns}) for choices in self.stages]
        return tuple(sorted(itertools.product(*flags), key=sum))

    @cached_property
    def _placements(self) -> tuple[tuple[bool, ...], ...]:
        """Those that satisfy ``fused_stages``."""
        return tuple(p for p in self._possible_placements if self.fused_stages.min <= sum(p) <= self.fused_stages.max)

    @property
    def _asks_placement(self) -> bool:
        """Whether the placement is a question of its own; else it follows from the patterns."""
        return self._placements != self._possible_placements

    def _is_asked(self, stage: int, placement: tuple[bool, ...]) -> bool:
        return placement[stage] or not self._asks_placement

    # Questions about one stage.

    def _fusion(self, stage: int, choose: Choose, choose_blocks: Callable[[], Blocks]) -> StageFusion:
        """Draw the fusion of a stage (from 0), in the spelling of the space file."""
        fields: dict[str, Any] = {"pattern": self._ask(stage, "pattern", {}, choose)}
        if fields["pattern"] != "none":
            fields["blocks"] = choose_blocks()
        for field in _ORDER:
            if field in _active_fields(tuple(fields.items())):
                fields[field] = self._ask(stage, field, fields, choose)
        return StageFusion(**fields)

    def _fusion_in(self, stage: int, blocks: Blocks, choose: Choose) -> StageFusion:
        """Draw a fusion that these blocks carry."""
        return self._fusion(stage, choose, lambda: blocks)

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
            return tuple(p for p in patterns if p != "none") if self._asks_placement else patterns, ""
        if field == "reduction":
            here = self._reductions[stage, known["pattern"], _representative(known["blocks"])]
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
            for blocks in self._representatives(stage)
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
        return fusion.canonical(self.backbone.shape, stage).reduction

    # Which blocks of a fused stage carry its fusion: any but none of them. All sets with the same representative
    # leave the other questions, and the canonical form of the answers, as they are.

    def _block_questions(self, stage: int) -> tuple[str, ...]:
        """The questions about the blocks of a stage (from 0); none where its blocks go together or it has one."""
        num_blocks = self.backbone.shape.layers[stage] if self.granularity == "block" else 1
        return tuple(f"stage{stage + 1}.block{block}" for block in range(num_blocks)) if num_blocks > 1 else ()

    def _ask_blocks(self, stage: int, choose: Choose) -> Blocks:
        """The blocks of a fused stage that carry its fusion; the last is not asked where no other does."""
        questions = self._block_questions(stage)
        carried: list[int] = []
        for block, question in enumerate(questions):
            if (block == len(questions) - 1 and not carried) or choose(question, (True, False)):
                carried.append(block)
        return None if len(carried) == len(questions) else tuple(carried)

    def _block_answers(self, stage: int, blocks: Blocks) -> Answers:
        """The answers with which `_ask_blocks` gives these blocks."""
        questions = self._block_questions(stage)
        answers: Answers = {name: blocks is None or block in blocks for block, name in enumerate(questions)}
        if questions and not any(list(answers.values())[:-1]):
            del answers[questions[-1]]
        return answers

    def _representatives(self, stage: int) -> tuple[Blocks, ...]:
        """What `_representative` gives in a stage."""
        return (None, (0,), (1,)) if self._block_questions(stage) else (None,)

    def _num_represented(self, stage: int, fusion: StageFusion) -> int:
        """For how many sets of blocks the blocks of a fusion stand."""
        num_later = max(len(self._block_questions(stage)) - 1, 0)
        return 1 if fusion.is_off or not num_later or fusion.blocks == (0,) else 2**num_later - 1

    def _represented(self, stage: int, fusion: StageFusion) -> Iterator[StageFusion]:
        """The fusion with every set of blocks for which its own stand."""
        if self._num_represented(stage, fusion) == 1:
            yield fusion
            return
        num_blocks = self.backbone.shape.layers[stage]
        first = (0,) if fusion.blocks is None else ()
        for num_later in range(1, num_blocks):
            for later in itertools.combinations(range(1, num_blocks), num_later):
                blocks = (*first, *later)
                yield fusion.model_copy(update={"blocks": None if len(blocks) == num_blocks else blocks})

    # Counting and listing.

    @cached_property
    def _explored(self) -> tuple[tuple[dict[StageFusion, list[Answers]], ...], dict[str, tuple[Option, ...]]]:
        """For each stage, its canonical fusions in representative blocks with every way to draw them; all questions."""
        questions: dict[str, tuple[Option, ...]] = {"norm": self.norm} if len(self.norm) > 1 else {}
        if self._asks_placement and len(self._placements) > 1:
            questions["fused_stages"] = tuple(_label(p) for p in self._placements)
        stages = []
        for stage in range(STAGES):
            ways: dict[StageFusion, list[Answers]] = {}
            if self._asks_placement and not all(p[stage] for p in self._placements):
                ways[StageFusion()] = [{}]
            if any(self._is_asked(stage, p) for p in self._placements):
                for blocks in self._representatives(stage):
                    for answers, fusion in _all_ways(partial(self._fusion_in, stage, blocks), questions):
                        ways.setdefault(fusion.canonical(self.backbone.shape, stage), []).append(answers)
                if any(not fusion.is_off for fusion in ways):
                    questions |= dict.fromkeys(self._block_questions(stage), (True, False))
            stages.append(ways)
        return tuple(stages), questions

    @property
    def _ways(self) -> tuple[dict[StageFusion, list[Answers]], ...]:
        return self._explored[0]

    def _ways_to(self, stage: int, fusion: StageFusion) -> list[Answers]:
        """Every way to draw a canonical fusion of a stage."""
        known = fusion.model_copy(update={"blocks": _representative(fusion.blocks)})
        answers = {} if fusion.is_off else self._block_answers(stage, fusion.blocks)
        return [answers | way for way in self._ways[stage].get(known, [])]

    @cached_property
    def _uniform_questions(self) -> dict[str, tuple[Option, ...]]:
        return {name: options for name, options in self._explored[1].items() if name.startswith("all.")}

    @cached_property
    def _every_uniform(self) -> int:
        """A set of answers to all uniform questions is a bit mask; this one holds every combination."""
        return (1 << math.prod(len(options) for options in self._uniform_questions.values())) - 1

    @cached_property
    def _uniform_masks(self) -> tuple[dict[StageFusion, int], ...]:
        """For each stage and canonical fusion, the combinations of uniform answers that can give it.

        Fusions of several stages go together where these sets meet; so a network that several combinations
        give is counted once.
        """
        combinations = list(itertools.product(*self._uniform_questions.values()))
        singles = {
            (name, option): sum(1 << i for i, values in enumerate(combinations) if values[position] == option)
            for position, (name, options) in enumerate(self._uniform_questions.items())
            for option in options
        }

        def mask(answers: Answers) -> int:
            combined = self._every_uniform
            for answer in answers.items():
                combined &= singles.get(answer, combined)
            return combined

        masks: list[dict[StageFusion, int]] = []
        for ways in self._ways:
            of_stage: dict[StageFusion, int] = {}
            for fusion, drawn in ways.items():
                for answers in drawn:
                    of_stage[fusion] = of_stage.get(fusion, 0) | mask(answers)
            masks.append(of_stage)
        return tuple(masks)

    def _count(self, placement: tuple[bool, ...]) -> int:
        """How many networks carry attention in exactly these stages, under one normalisation."""
        counts = Counter({self._every_uniform: 1})
        for stage, (masks, fused) in enumerate(zip(self._uniform_masks, placement, strict=True)):
            groups: Counter[int] = Counter()
            for fusion, mask in masks.items():
                if fusion.is_off != fused:
                    groups[mask] += self._num_represented(stage, fusion)
            following: Counter[int] = Counter()
            for (before, count), (mask, num_fusions) in itertools.product(counts.items(), groups.items()):
                if before & mask:
                    following[before & mask] += count * num_fusions
            counts = following
        return counts.total()

    def _combinations(self, placement: tuple[bool, ...], allowed: int) -> Iterator[tuple[StageFusion, ...]]:
        """The fusions of the last ``len(placement)`` stages that go together within the mask ``allowed``."""
        if not placement:
            yield ()
            return
        stage = STAGES - len(placement)
        for fusion, mask in self._uniform_masks[stage].items():
            if fusion.is_off != placement[0] and allowed & mask:
                for others in self._combinations(placement[1:], allowed & mask):
                    yield from ((represented, *others) for represented in self._represented(stage, fusion))


def _inherited(content: object, source: str, folder: Path | None, seen: tuple[Path, ...]) -> SpaceFile:
    """The content on top of everything that it extends."""
    if not isinstance(content, Mapping):
        raise UserError(f"{source}: expected a mapping of keys, got {type(content).__name__}")
    fields = dict(content)
    schema = fields.pop("schema", None)
    if schema != SCHEMA:
        hint = "; a newer fusion-nas wrote it" if isinstance(schema, int) and schema > SCHEMA else ""
        raise UserError(f"{source}: schema: expected {SCHEMA}, got {schema!r}{hint}")
    file = SpaceFile.parse(fields, source)
    if file.extends is None:
        return file
    try:
        path = find_file("search_spaces", file.extends, folder).resolve()
    except UserError as error:
        raise UserError(f"{source}: extends: {error}") from None
    if path in seen:
        raise UserError(f"{source}: extends: {file.extends} leads back to a file that extends it")
    return file.on_top_of(_inherited(read_document(path), str(path), path.parent, (*seen, path)))


def _all_ways(
    draw: Callable[[Choose], Result], questions: dict[str, tuple[Option, ...]]
) -> Iterator[tuple[Answers, Result]]:
    """Every way through the questions that ``draw`` asks, with what it gives; notes them in ``questions``."""
    pending: list[Answers] = [{}]
    while pending:
        answers = pending.pop()

        def choose(name: str, options: tuple[Option, ...], answers: Answers = answers) -> Option:
            questions[name] = options
            if name not in answers:
                pending.extend({**answers, name: option} for option in reversed(options[1:]))
                answers[name] = options[0]
            return answers[name]

        yield answers, draw(choose)


def _merged(*parts: Answers) -> Answers | None:
    """All answers together; None where two disagree."""
    merged: Answers = {}
    for part in parts:
        if any(merged.get(name, answer) != answer for name, answer in part.items()):
            return None
        merged |= part
    return merged


def _representative(blocks: Blocks) -> Blocks:
    """One of few sets of blocks that stands for this one: it receives the same numbers of channels.

    The first block of a stage receives what the stage before gives, the others what the stage itself gives.
    """
    if blocks is None or (0 in blocks and len(blocks) > 1):
        return None
    return (0,) if 0 in blocks else (1,)


@cache
def _active_fields(fields: tuple[tuple[str, Any], ...]) -> tuple[str, ...]:
    """Which fields of a fusion matter, as far as it is known: asked of a few prefixes thousands of times."""
    return StageFusion.model_construct(**dict(fields)).active_fields


def _label(placement: tuple[bool, ...]) -> str:
    """``2+4`` for a placement in the second and fourth stage."""
    return "+".join(str(stage) for stage, fused in enumerate(placement, start=1) if fused) or "none"


def _options_dict(choices: StageChoices, fields: list[FieldName]) -> dict[str, list[Option]]:
    return {field: list(choices.options(field)) for field in fields if choices.options(field)}
