"""Whether the look at a study's labels finds those that mean nothing, and leaves the others alone.

    python benchmarks/labels.py                     # chosen on seeds from 0, reported on seeds from 100
    python benchmarks/labels.py --seeds 2 --no-write

A seed divides a source anew (of the cluttered and cued digits: draws it anew), which gives one data set as it is, one
whose labels were dealt out anew, and some of which a known share is wrong. Of the first seeds the script tells what
other levels would have said; the table is of the others. Writes benchmarks/results/labels.json and a table of
docs/own-data.md.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.markdown import fill, markdown
from nas.documents import write_atomically
from nas.statistics import wilson_interval
from nas.training.config import DataConfig
from nas.training.data import open_data
from nas.training.data.labels import FEWEST, LEVEL, NUM_IMAGES, judge, looks
from nas.training.summary import LabelCheck

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "labels.json"
PAGE = HERE.parent / "docs" / "own-data.md"
SOURCES = {
    "digits": "digits, 8 × 8",
    "noisy-digits": "noisy digits, 8 × 8",
    "cued-digits": "cued digits, 10 × 10",
    "cluttered-digits": "cluttered digits, 24 × 24",
    "fashion-mnist": "Fashion-MNIST, 28 × 28",
}
SIZES = (NUM_IMAGES, FEWEST)
WRONG = (0.1, 0.2, 0.4)
SPOILED = 6
"""Seeds of which labels are wrong."""
FIRST_REPORTED = 100
LEVELS = (0.01, 0.02, 0.05)


@dataclass(frozen=True)
class Look:
    """One data set."""

    source: str
    num_images: int
    seed: int
    labels: str
    """`real`, `dealt` or the share that is wrong."""
    seconds: float
    check: LabelCheck


def spoiled(labels: NDArray[np.int64], share: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Labels of which a share is another class, drawn evenly."""
    K = labels.max() + 1
    wrong = random.random(len(labels)) < share
    return np.where(wrong, (labels + random.integers(1, K, len(labels))) % K, labels)


def data_sets(source: str, size: int, seed: int, *, spoil: bool) -> Iterator[Look]:
    data = open_data(DataConfig(source=source, num_train=size, split_seed=seed))
    started = time.process_time()
    images, classes = data.sample(NUM_IMAGES)
    matrices, labels = looks(images), classes.numpy()
    first_s = time.process_time() - started
    random = np.random.default_rng(seed)
    variants = {"real": labels, "dealt": random.permutation(labels)}
    if spoil:
        variants |= {f"{share:g}": spoiled(labels, share, random) for share in WRONG}
    for name, given in variants.items():
        started = time.process_time()
        check = judge(given, matrices)
        yield Look(source, len(labels), seed, name, first_s + time.process_time() - started, check)


def measure(seeds: range) -> list[Look]:
    found = []
    for source in SOURCES:
        for size in SIZES:
            more = len(seeds) if size < NUM_IMAGES else 0  # what is quick is done twice as often
            for seed in [*seeds, *range(seeds[-1] + 1, seeds[-1] + 1 + more)]:
                found += data_sets(source, size, seed, spoil=size == NUM_IMAGES and seed - seeds[0] < SPOILED)
            print(f"{source} {size}: {len(found)} looks", file=sys.stderr, flush=True)
    return found


def rate(hits: int, of: int) -> str:
    low, high = wilson_interval(hits / of, of)
    return f"{hits} of {of} ({100 * low:.1f} to {100 * high:.1f} %)"


def table(looks_: Sequence[Look]) -> list[str]:
    rows = []
    for source, name in SOURCES.items():
        for size in SIZES:
            here = [look for look in looks_ if look.source == source and look.num_images == size]
            real, dealt = ([look for look in here if look.labels == what] for what in ("real", "dealt"))
            spoilt = {s: [look.check for look in here if look.labels == f"{s:g}"] for s in WRONG}
            rows.append(
                [
                    name,
                    str(size),
                    f"{sum(look.check.meaningless for look in dealt)} of {len(dealt)}",
                    f"{sum(look.check.meaningless for look in real)} of {len(real)}",
                    f"{sum(c.meaningless for c in spoilt[0.4])} of {len(spoilt[0.4])}" if spoilt[0.4] else "",
                    ", ".join(_bound(spoilt[s]) for s in WRONG) if spoilt[0.4] else "",
                    f"{statistics.median(look.seconds for look in here):.2f}",
                ]
            )
    heads = ["data", "images", "dealt out anew: warned", "as they are: warned", "40 % wrong: warned"]
    heads += ["at most so many wrong, of 10, 20, 40 %", "CPU s"]
    real, dealt = ([look.check.meaningless for look in looks_ if look.labels == what] for what in ("real", "dealt"))
    both = f"Of all: found {rate(sum(dealt), len(dealt))}; false alarms {rate(sum(real), len(real))}."
    return [*markdown(heads, rows), "", both]


def _bound(checks: Sequence[LabelCheck]) -> str:
    bounds = [check.wrong_at_most for check in checks if check.wrong_at_most is not None]
    return f"{100 * statistics.median(bounds):.0f} %" if 2 * len(bounds) > len(checks) else "–"


def other_levels(looks_: Sequence[Look]) -> list[str]:
    said = []
    for size in SIZES:
        for level in LEVELS:
            here = [look for look in looks_ if look.num_images == size]
            of = {what: [look.check.p > level for look in here if look.labels == what] for what in ("real", "dealt")}
            said.append(
                f"{size} images, p > {level}: found {sum(of['dealt'])} of {len(of['dealt'])}, "
                f"false alarms {sum(of['real'])} of {len(of['real'])}"
            )
    return said


HEADS = ("source", "images", "seed", "labels", "p", "agreement", "told", "wrong at most")


def _row(look: Look) -> list[str | float | None]:
    check = look.check
    found = [check.p, check.agreement, check.told, check.wrong_at_most]
    return [look.source, look.num_images, look.seed, look.labels, *(x if x is None else round(x, 4) for x in found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=26, help="of the report; a third as many are for the choice")
    parser.add_argument("--no-write", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    chosen = measure(range(max(1, given.seeds // 3)))
    reported = measure(range(FIRST_REPORTED, FIRST_REPORTED + given.seeds))
    lines = table(reported)
    print("\n".join([*other_levels(chosen), "", *lines]))
    if not given.no_write:
        rows = {"chosen": [_row(look) for look in chosen], "reported": [_row(look) for look in reported]}
        write_atomically(RESULTS, json.dumps({"level": LEVEL, "row": HEADS, **rows}) + "\n")
        write_atomically(PAGE, fill(PAGE.read_text(encoding="utf-8"), {"labels": "\n".join(lines)}))


if __name__ == "__main__":
    main()
