"""Which rules of thumb hold: paired trainings that differ in one choice, on the task of FusionBench.

    python -m benchmarks.rules             # what is missing, then docs/evidence.md
    python -m benchmarks.rules --workers 2

Results are kept run by run in benchmarks/results/rules.jsonl; the same command goes on after any interruption.
Six random architectures of a kind are trained with two seeds in every variant. A difference is that of two
variants of one architecture, averaged over the seeds; its interval is over architectures.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.fusion_bench import WATCH, done_runs
from benchmarks.result_file import FileStore
from nas.architecture import Architecture, PatternName, StageFusion
from nas.bench.table import DATA, TRAINING, bench_space
from nas.comparison import Difference, Mean, differences, mean_of
from nas.fusion.blocks import FusedBlock
from nas.fusion.models import build_model
from nas.training import run as training_run
from nas.training.data import open_data
from nas.training.data.source import DataSource

RESULTS = Path(__file__).parent / "results" / "rules.jsonl"
ARCHITECTURES = 6
SEEDS = (10, 11)
"""None of the table's."""
STRESS = 50
"""Learning rate of the stressed variants over that of the table."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to spell the fused stages of an architecture."""

    name: str
    fusion: Mapping[str, Any]
    """Fields of every fused stage that differ from those of the table."""
    swapped: bool = False
    """Whether γ_skip and γ_residual change places after building: no architecture can say that."""
    rate: float = 1.0
    """Learning rate over that of the table."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One question: variants of architectures with some patterns, against the first variant."""

    question: str
    patterns: tuple[PatternName, ...]
    variants: tuple[Variant, ...]


RULES = {
    "gates": Rule(
        question="open gates and small λ",
        patterns=("p1", "p2", "p3"),
        variants=(
            Variant(name="textbook gates, λ = 1", fusion={}),
            Variant(name="open gates, λ = 1", fusion={"gate_init": "open"}),
            Variant(name="textbook gates, λ = 0.5", fusion={"lambda_init": 0.5}),
            Variant(name="textbook gates, λ = 0.1", fusion={"lambda_init": 0.1}),
        ),
    ),
    "gamma": Rule(
        question="γ_skip below γ_residual",
        patterns=("p4",),
        variants=(
            Variant(name="γ_s = 0.05 < γ_r = 0.3", fusion={"gamma_skip_init": 0.05, "gamma_residual_init": 0.3}),
            Variant(name="γ_s = 0 < γ_r = 0.3", fusion={"gamma_skip_init": 0.0, "gamma_residual_init": 0.3}),
            Variant(
                name="γ_s = 0.3 > γ_r = 0.05",
                fusion={"gamma_skip_init": 0.05, "gamma_residual_init": 0.3},
                swapped=True,
            ),
        ),
    ),
    "reduction": Rule(
        question="reduction",
        patterns=("p1", "p2", "p3"),
        variants=(
            Variant(name="r = 16", fusion={"reduction": 16}),
            Variant(name="r = 4", fusion={"reduction": 4}),
            Variant(name="r = 32", fusion={"reduction": 32}),
        ),
    ),
    "stress": Rule(
        question=f"open gates and small λ at {STRESS} times the learning rate",
        patterns=("p1", "p2", "p3"),
        variants=(
            Variant(name="textbook gates, λ = 1", fusion={}, rate=STRESS),
            Variant(name="open gates, λ = 1", fusion={"gate_init": "open"}, rate=STRESS),
            Variant(name="textbook gates, λ = 0.1", fusion={"lambda_init": 0.1}, rate=STRESS),
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training."""

    rule: str
    variant: int
    architecture: int
    seed: int

    @property
    def key(self) -> str:
        """Name of the run in the store."""
        return f"{self.rule}/{self.variant}/{self.architecture}/{self.seed}"

    def do(self) -> dict[str, Any]:
        """Train it; the accuracy and what the guard would have said."""
        variant = RULES[self.rule].variants[self.variant]
        base = bases(self.rule)[self.architecture]
        stages = tuple(
            s if s.is_off else StageFusion.model_validate(s.to_dict() | dict(variant.fusion)) for s in base.stages
        )
        config = TRAINING.model_copy(update={"learning_rate": TRAINING.learning_rate * variant.rate})
        with mock.patch.object(training_run, "build_model", _swapped if variant.swapped else build_model):
            found = training_run.train(
                base.model_copy(update={"stages": stages}), images(), config, seed=self.seed, guard=WATCH
            )
        return {"accuracy": found.score, "signals": sorted({event.signal for event in found.events})}


def _swapped(architecture: Architecture) -> Any:
    model = build_model(architecture)
    for block in model.modules():
        if isinstance(block, FusedBlock):
            block.fixed_gamma_skip, block.fixed_gamma_residual = block.fixed_gamma_residual, block.fixed_gamma_skip
    return model


@cache
def images() -> DataSource:
    """The images of the table."""
    return open_data(DATA)


@cache
def bases(rule: str) -> tuple[Architecture, ...]:
    """Random architectures of the space with two to four stages of the rule's patterns."""
    patterns = RULES[rule].patterns
    fitting = [
        architecture
        for architecture in sorted(bench_space().architectures(), key=lambda a: a.digest)
        if all(s.pattern in (*patterns, "none") for s in architecture.stages)
        and sum(not s.is_off for s in architecture.stages) > 1
    ]
    chosen = np.random.default_rng(len(fitting)).permutation(len(fitting))[:ARCHITECTURES]
    return tuple(fitting[i] for i in chosen)


def recipe() -> str:
    """First 16 hex digits of a SHA-256 over what a result depends on."""
    content = [DATA.model_dump(mode="json"), TRAINING.model_dump(mode="json"), bench_space().digest, STRESS]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def every_run() -> Iterator[Run]:
    """All runs, rule by rule; those that are compared come one after the other."""
    for name, rule in RULES.items():
        for architecture in range(ARCHITECTURES):
            for seed in SEEDS:
                for variant in range(len(rule.variants)):
                    yield Run(rule=name, variant=variant, architecture=architecture, seed=seed)


def do_missing(store: FileStore, workers: int) -> None:
    """Train what the store does not hold."""
    done, runs = store.results(recipe()), list(every_run())
    missing = [run for run in runs if run.key not in done]
    told = time.monotonic()
    with closing(done_runs(missing, workers)) as ended:
        for count, (run, result) in enumerate(ended, start=len(runs) - len(missing) + 1):
            store.add(recipe(), run.key, result)
            if time.monotonic() - told > 60:
                told = time.monotonic()
                print(f"{count}/{len(runs)} runs", file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one variant gave beside the first of its rule."""

    variant: Variant
    accuracy: Mean
    signals: dict[str, float]
    """Share of the runs in which the guard spoke, by signal; `any` for one at least."""
    difference: Difference | None
    """To the first variant; None for that itself."""


def outcomes(name: str, results: Mapping[str, Mapping[str, Any]]) -> tuple[Outcome, ...]:
    """Compare the variants of a rule; empty where a run is missing."""
    rule = RULES[name]
    shape = (len(rule.variants), ARCHITECTURES, len(SEEDS))
    runs = [
        Run(rule=name, variant=v, architecture=a, seed=seed)
        for v in range(shape[0])
        for a in range(ARCHITECTURES)
        for seed in SEEDS
    ]
    if any(run.key not in results for run in runs):
        return ()
    scores = np.array([results[run.key]["accuracy"] for run in runs]).reshape(shape).mean(2)
    found = differences(scores, 0, range(1, shape[0]))
    return tuple(
        Outcome(
            variant=variant,
            accuracy=mean_of(scores[v]),
            signals=_shares([results[run.key]["signals"] for run in runs if run.variant == v]),
            difference=found[v - 1] if v else None,
        )
        for v, variant in enumerate(rule.variants)
    )


def _shares(signals: list[list[str]]) -> dict[str, float]:
    names = sorted({name for spoken in signals for name in spoken})
    shares = {name: sum(name in spoken for spoken in signals) / len(signals) for name in names}
    return {"any": sum(map(bool, signals)) / len(signals), **shares}


def main() -> None:
    """Train what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end is an end like Ctrl-C
    do_missing(FileStore(RESULTS), arguments.workers)


if __name__ == "__main__":
    main()
