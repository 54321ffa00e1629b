"""How many networks a space holds, every one of them, and every way to draw one."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TypeVar

from nas.architecture import StageFusion
from nas.backbones import STAGES
from nas.space.block_sets import representative
from nas.space.questions import Questions, label
from nas.space.vocabulary import Answers, Choose, Option

Result = TypeVar("Result")


class Networks:
    """Everything that can be answered to the questions of a space, and the networks that come of it."""

    def __init__(self, questions: Questions) -> None:
        self.questions = questions

    @property
    def choices(self) -> dict[str, tuple[Option, ...]]:
        """Every question that can be asked, with its options."""
        return self._explored[1]

    @cached_property
    def _explored(self) -> tuple[tuple[dict[StageFusion, list[Answers]], ...], dict[str, tuple[Option, ...]]]:
        """For each stage, its canonical fusions in representative blocks with every way to draw them; all questions."""
        asked = self.questions
        questions: dict[str, tuple[Option, ...]] = {"norm": asked.norm} if len(asked.norm) > 1 else {}
        if asked.asks_placement and len(asked.placements) > 1:
            questions["fused_stages"] = tuple(label(p) for p in asked.placements)
        stages = []
        for stage in range(STAGES):
            ways: dict[StageFusion, list[Answers]] = {}
            if asked.asks_placement and not all(p[stage] for p in asked.placements):
                ways[StageFusion()] = [{}]
            if any(asked.is_asked(stage, p) for p in asked.placements):
                for blocks in asked.blocks.representatives(stage):
                    for answers, fusion in _all_ways(partial(asked.fusion_in, stage, blocks), questions):
                        ways.setdefault(fusion.canonical(asked.shape, stage), []).append(answers)
                if any(not fusion.is_off for fusion in ways):
                    questions |= dict.fromkeys(asked.blocks.questions(stage), (True, False))
            stages.append(ways)
        return tuple(stages), questions

    @property
    def _ways(self) -> tuple[dict[StageFusion, list[Answers]], ...]:
        return self._explored[0]

    def ways_to(self, stage: int, fusion: StageFusion) -> list[Answers]:
        """Every way to draw a canonical fusion of a stage."""
        known = fusion.model_copy(update={"blocks": representative(fusion.blocks)})
        answers = {} if fusion.is_off else self.questions.blocks.answers_for(stage, fusion.blocks)
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

    def count(self, placement: tuple[bool, ...]) -> int:
        """How many networks carry attention in exactly these stages, under one normalisation."""
        counts = Counter({self._every_uniform: 1})
        for stage, (masks, fused) in enumerate(zip(self._uniform_masks, placement, strict=True)):
            groups: Counter[int] = Counter()
            for fusion, mask in masks.items():
                if fusion.is_off != fused:
                    groups[mask] += self.questions.blocks.num_represented(stage, fusion)
            following: Counter[int] = Counter()
            for (before, count), (mask, num_fusions) in itertools.product(counts.items(), groups.items()):
                if before & mask:
                    following[before & mask] += count * num_fusions
            counts = following
        return counts.total()

    def combinations(self, placement: tuple[bool, ...]) -> Iterator[tuple[StageFusion, ...]]:
        """The canonical fusions of the stages, for every network that carries attention in exactly these."""
        return self._combinations(placement, self._every_uniform)

    def _combinations(self, placement: tuple[bool, ...], allowed: int) -> Iterator[tuple[StageFusion, ...]]:
        """The fusions of the last ``len(placement)`` stages that go together within the mask ``allowed``."""
        if not placement:
            yield ()
            return
        stage = STAGES - len(placement)
        for fusion, mask in self._uniform_masks[stage].items():
            if fusion.is_off != placement[0] and allowed & mask:
                for others in self._combinations(placement[1:], allowed & mask):
                    for represented in self.questions.blocks.represented(stage, fusion):
                        yield (represented, *others)


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
