"""The sentence and the table of a confirmation, against the numbers that they are made of."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.architecture import Architecture, Backbone
from nas.report.confirm import difference_text, verdict_of, verdict_text
from nas.statistics import LEVEL
from nas.study.confirm.judge import ConfirmedNetwork, judgement

PLAIN = Architecture.plain(Backbone(name="resnet_micro", stem="small"), num_classes=10)
NUMBERS = r"([+-]\d+\.\d\d)"
INTERVAL = re.compile(rf"\[{NUMBERS}, {NUMBERS}\]")


def network(label: str, correct: np.ndarray, *, landmark: bool) -> ConfirmedNetwork:
    """A network whose validation accuracies are its test accuracies."""
    return ConfirmedNetwork(
        label=label,
        digest=label,
        architecture=PLAIN,
        landmark=label if landmark else None,
        candidate=not landmark,
        num_params=1000,
        macs=1000,
        val=correct.mean(1),
        correct=correct,
    )


def confirmation(accuracies: list[float], *, spread: float, num_seeds: int, seed: int) -> list[ConfirmedNetwork]:
    """The plain network, a landmark and found networks, with 200 test images."""
    random = np.random.default_rng(seed)
    networks = []
    for number, accuracy in enumerate(accuracies):
        chances = np.clip(accuracy + spread * random.standard_normal((num_seeds, 1)), 0, 1)
        label = ("plain", "se-post")[number] if number < 2 else f"trial {number}"
        networks.append(network(label, random.random((num_seeds, 200)) < chances, landmark=number < 2))
    return networks


def claimed(text: str) -> bool:
    """Whether an interval and a p-value that stand side by side, as printed, claim a difference; they must agree."""
    low, high = map(float, INTERVAL.search(text).groups())
    p = float(re.search(r"p (?:= )?([\d.e-]+)", text)[1])
    assert (p <= LEVEL) == (low > 0 or high < 0) or 0 in (
        low,
        high,
    )  # a bound of less than 0.005 points is printed as 0
    return p <= LEVEL


@settings(deadline=None)  # the first example waits for imports
@given(
    st.lists(st.floats(0.1, 0.9), min_size=3, max_size=6),
    st.sampled_from([0.0, 0.01, 0.1]),
    st.integers(2, 8),
    st.integers(0, 2**32),
)
def test_the_sentence_the_table_and_the_intervals_say_the_same(accuracies, spread, num_seeds, seed):
    found = judgement(confirmation(accuracies, spread=spread, num_seeds=num_seeds, seed=seed), seeds=range(num_seeds))
    said = verdict_of(found)
    for sentence, difference in (
        (said.sentence, found.winner.above_plain),
        (said.landmark, found.winner.above_landmark),
    ):
        better, worse = "is better than" in sentence, "is worse than" in sentence
        assert (better, worse) == (difference.low > 0, difference.high < 0)
        assert (better or worse) == claimed(sentence) == difference.found
        assert sentence.startswith("No difference found") != (better or worse)
        if needed := re.search(r"about (\d+) seeds", sentence):
            assert int(needed[1]) > num_seeds
    rows = {line.split("  ")[0].strip(" *"): line for line in verdict_text(said).splitlines()}
    for row in found.rows:
        cells = [row.above_plain, row.above_landmark]
        assert all(difference_text(cell) in rows[row.network.label] for cell in cells)
        assert all(claimed(difference_text(cell)) == cell.found for cell in cells if cell is not None)


@pytest.mark.parametrize(
    ("plain", "ours", "said"),
    [
        ([True, False], [True, False], "; both have the same mean."),
        ([True, False], [False, True], "; both have the same mean."),
        (
            [False, False],
            [True, True],
            "; nothing varied with the seed, so that nothing is known of how many it would take.",
        ),
    ],
)
def test_why_no_number_of_seeds_is_told(plain, ours, said):
    networks = [
        network("plain", np.array([plain] * 3), landmark=True),
        network("trial 3", np.array([ours] * 3), landmark=False),
    ]
    assert verdict_of(judgement(networks, seeds=range(3))).sentence.endswith(said)


def test_few_images_are_named_where_seeds_do_not_help():
    """22 images are won and 18 lost, nearly the same with each seed."""
    plain = np.array([[False] * 22 + [True] * 18] * 4)
    ours = ~plain
    ours[0, 0] = False
    networks = [network("plain", plain, landmark=True), network("trial 3", ours, landmark=False)]
    sentence = verdict_of(judgement(networks, seeds=range(4))).sentence
    assert sentence.endswith("; no number of seeds would show one of this size on 40 test images.")
