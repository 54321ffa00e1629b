"""Which blocks of a fused stage carry its fusion: any but none of them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from nas.architecture import StageFusion
from nas.space.vocabulary import Answers, Choose

Blocks = tuple[int, ...] | None
"""Blocks of a stage, from 0; None: all."""


@dataclass(frozen=True)
class BlockSets:
    """The questions about the blocks of a stage, and the sets of blocks that count as one.

    All sets with the same representative leave the other questions, and the canonical form of the answers, as they
    are. A stage is a number from 0.
    """

    num_blocks: tuple[int, ...]
    """Blocks of each stage that are asked about one by one; 1 where they go together."""

    def questions(self, stage: int) -> tuple[str, ...]:
        """The questions about the blocks of a stage; none where its blocks go together or it has one."""
        count = self.num_blocks[stage]
        return tuple(f"stage{stage + 1}.block{block}" for block in range(count)) if count > 1 else ()

    def ask(self, stage: int, choose: Choose) -> Blocks:
        """The blocks of a fused stage that carry its fusion; the last is not asked where no other does."""
        questions = self.questions(stage)
        carried: list[int] = []
        for block, question in enumerate(questions):
            if (block == len(questions) - 1 and not carried) or choose(question, (True, False)):
                carried.append(block)
        return None if len(carried) == len(questions) else tuple(carried)

    def answers_for(self, stage: int, blocks: Blocks) -> Answers:
        """The answers with which `ask` gives these blocks."""
        questions = self.questions(stage)
        answers: Answers = {name: blocks is None or block in blocks for block, name in enumerate(questions)}
        if questions and not any(list(answers.values())[:-1]):
            del answers[questions[-1]]
        return answers

    def representatives(self, stage: int) -> tuple[Blocks, ...]:
        """What `representative` gives in a stage."""
        return (None, (0,), (1,)) if self.questions(stage) else (None,)

    def num_represented(self, stage: int, fusion: StageFusion) -> int:
        """For how many sets of blocks the blocks of a fusion stand."""
        num_later = max(len(self.questions(stage)) - 1, 0)
        return 1 if fusion.is_off or not num_later or fusion.blocks == (0,) else 2**num_later - 1

    def represented(self, stage: int, fusion: StageFusion) -> Iterator[StageFusion]:
        """The fusion with every set of blocks for which its own stand."""
        if self.num_represented(stage, fusion) == 1:
            yield fusion
            return
        num_blocks = self.num_blocks[stage]
        first = (0,) if fusion.blocks is None else ()
        for num_later in range(1, num_blocks):
            for later in itertools.combinations(range(1, num_blocks), num_later):
                blocks = (*first, *later)
                yield fusion.model_copy(update={"blocks": None if len(blocks) == num_blocks else blocks})


def representative(blocks: Blocks) -> Blocks:
    """One of few sets of blocks that stands for this one: it receives the same numbers of channels.

    The first block of a stage receives what the stage before gives, the others what the stage itself gives.
    """
    if blocks is None or (0 in blocks and len(blocks) > 1):
        return None
    return (0,) if 0 in blocks else (1,)
