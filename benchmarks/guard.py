"""Does the guard stop what fails, spare what ends well, and cost little?

    python benchmarks/guard.py                     # goes on from benchmarks/results/guard.json, writes docs/guard.md
    python benchmarks/guard.py --tasks few --only lr --seeds 1 --no-write
    python benchmarks/guard.py --overhead          # measures the overhead afresh

Every case is trained to the end with signals that only record: that is the truth, because recording changes no result
(`test_watching_changes_no_result`), and it says where each signal would have spoken. Where one with the verdict `prune`
spoke, the case is trained once more with the guard, and has to stop there.

A run failed where its loss was not finite or its accuracy lies below the middle between chance and the median of
the plain network under the unharmed recipe of the same task; else it ended well. Every run is kept once it is done.
"""

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from nas.architecture import Architecture, Backbone, StageFusion
from nas.documents import write_atomically
from nas.measurement import Interrupted, Measurement, Outcome, StabilityEvent
from nas.space.landmarks import LANDMARKS, landmark_in
from nas.space.space import SearchSpace
from nas.statistics import wilson_interval
from nas.training import run as training_run
from nas.training.config import DataConfig, GuardConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource
from nas.training.guard import Guard
from nas.training.inspection import Inspector
from nas.training.run import train
from nas.training.signals import SIGNALS
from nas.training.signals.reading import Observation

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "guard.json"
PAGE = HERE.parent / "docs" / "guard.md"
BEGIN, END = "<!-- guard: begin -->", "<!-- guard: end -->"
CHANCE = 0.1
RECORDING = GuardConfig(verdicts={signal.name: "warn" for signal in SIGNALS})
P2_CBAM = StageFusion(pattern="p2", attention="cbam")
P4_WIDE = StageFusion(pattern="p4", attention="cbam", skip_attention="se", gamma_skip_init=3, gamma_residual_init=3.1)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, backbone and the unharmed recipe."""

    name: str
    data: DataConfig
    backbone: Backbone
    training: TrainingConfig
    seeds: tuple[int, ...] = ()
    """Those that rules and thresholds were adjusted on."""
    held_out: tuple[int, ...] = ()
    """Those that were run once, after the last change."""
    num_random: int = 0
    """Architectures drawn from the space `full`, others for each seed."""


def _recipe(**fields: object) -> TrainingConfig:
    return TrainingConfig.parse({"device": "cpu", "threads": 1, **fields}, "benchmark")


MICRO = Backbone(name="resnet_micro", stem="small")


CLUTTERED = DataConfig(source="cluttered-digits", num_train=2048)


TASKS = {
    task.name: task
    for task in (
        Task(
            name="digits",
            data=DataConfig(num_train=768),
            backbone=MICRO,
            training=_recipe(epochs=8),
            seeds=(0, 4),
            held_out=(6, 7),
            num_random=8,
        ),
        Task(
            name="few",
            data=DataConfig(num_train=300),
            backbone=MICRO,
            training=_recipe(epochs=8),
            seeds=tuple(range(8)),
            held_out=(8, 9, 10),
            num_random=8,
        ),
        Task(
            name="cluttered 8",
            data=CLUTTERED,
            backbone=MICRO,
            training=_recipe(epochs=8),
            seeds=(4, 5, 6),
            held_out=(7, 8),
            num_random=2,
        ),
        Task(
            name="cluttered 5",
            data=CLUTTERED,
            backbone=MICRO,
            training=_recipe(epochs=5),
            seeds=(4,),
            held_out=(7,),
            num_random=2,
        ),
        Task(
            name="cluttered 24",
            data=DataConfig(source="cluttered-digits", num_train=512),
            backbone=MICRO,
            training=_recipe(epochs=24),
            seeds=(4,),
            held_out=(7,),
            num_random=4,
        ),
        Task(
            name="resnet50",
            data=DataConfig(image_size=32, num_train=256),
            backbone=Backbone(name="resnet50", stem="imagenet"),
            training=_recipe(epochs=6, batch_size=16, learning_rate=0.05, zero_init_branches=True),
            seeds=(0,),
            held_out=(4,),
        ),
        Task(
            name="resnet101",
            data=DataConfig(image_size=32, num_train=64),
            backbone=Backbone(name="resnet101", stem="imagenet"),
            training=_recipe(epochs=2, batch_size=16, learning_rate=0.05),
            seeds=(4,),
            held_out=(5,),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration."""

    group: str
    name: str
    task: Task
    architecture: Architecture
    training: TrainingConfig
    corrupted: bool = False
    """Whether the training labels are shuffled."""


def _fused(task: Task, stages: Sequence[StageFusion]) -> Architecture:
    return Architecture(backbone=task.backbone, num_classes=10, in_chans=1, stages=tuple(stages))


def _space(task: Task, name: str) -> SearchSpace:
    return SearchSpace.load(name).on(backbone=task.backbone, num_classes=10, in_chans=1)


def cases(task: Task, seed: int) -> Iterator[Case]:
    """The unharmed ones first."""
    space = _space(task, "full")
    landmarks = {name: landmark_in(space, name) for name in LANDMARKS}
    random = np.random.default_rng([7, seed])
    drawn = {f"full-{i}": space.sample(random) for i in range(task.num_random)}
    recipe = task.training

    def case(group: str, name: str, arch: Architecture, corrupted: bool = False, **changes: object) -> Case:
        training = recipe.model_copy(update=changes)
        return Case(group=group, name=name, task=task, architecture=arch, training=training, corrupted=corrupted)

    def faster(factor: int, *names: str) -> Iterator[Case]:
        rate = factor * recipe.learning_rate
        yield from (case(f"lr × {factor}", name, landmarks[name], learning_rate=rate) for name in names)

    if task.name == "resnet101":
        yield case("textbook p2-cbam everywhere", "p2-cbam", _fused(task, [P2_CBAM] * 4))
        return
    if task.name == "resnet50":
        yield case("unharmed", "plain", landmarks["plain"])
        yield case("unharmed", "se-everywhere", landmarks["se-everywhere"])
        yield from faster(30, "plain")
        yield case("textbook p2-cbam everywhere", "p2-cbam", _fused(task, [P2_CBAM] * 4))
        return
    some = ("plain", "dual-default", "se-post")
    small = task.data.source == "digits"
    yield from (case("unharmed", name, arch) for name, arch in {**landmarks, **drawn}.items())
    yield from faster(10, *(some if small else ("plain",)))
    yield from faster(30, *(landmarks if small else some))
    yield from (case("corrupted labels", name, landmarks[name], corrupted=True) for name in some)
    if task.name != "digits":
        return
    yield case("γ_s = 3, p4 everywhere", "p4-wide", _fused(task, [P4_WIDE] * 4))
    yield case("textbook p2-cbam everywhere", "p2-cbam", _fused(task, [P2_CBAM] * 4))
    if seed == 0:
        yield from (case("batch of 4", name, landmarks[name], batch_size=4) for name in some)


def opened(case: Case, seed: int) -> DataSource:
    """The task's data, where asked for with training labels that mean nothing."""
    source = open_data(case.task.data)
    if not case.corrupted:
        return source
    images, labels = source._parts["train"]
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed + 1))]
    source._parts["train"] = (images, shuffled)
    return source


def _event(event: StabilityEvent) -> list[object]:
    return [event.signal, event.step, event.stage, event.block, event.value]


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _run(case: Case, seed: int, guard: GuardConfig) -> tuple[Measurement, int]:
    """The measurement and the steps of an epoch."""
    data = opened(case, seed)
    batches = data.train_batches(batch_size=case.training.batch_size, seed=seed, on=torch.device("cpu"))
    return train(case.architecture, data, case.training, seed=seed, guard=guard), len(batches)


def watched(case: Case, seed: int) -> dict[str, Any]:
    """To the end, whatever the signals say."""
    measured, steps = _run(case, seed, RECORDING)
    return {
        "steps": steps,
        "score": measured.score,
        "epochs": [[_number(v) for v in (e.train_loss, e.val_loss, e.val_accuracy)] for e in measured.epochs],
        "events": [_event(event) for event in measured.events],
        "wall_s": round(measured.wall_s, 2),
    }


def final(run: dict[str, Any]) -> list[object] | None:
    """The first event that ends a run under the guard."""
    return next((event for event in run["events"] if GuardConfig().verdict(event[0]) == "prune"), None)


def guarded(case: Case, seed: int, truth: dict[str, Any]) -> dict[str, Any]:
    """With the guard, which has to stop where its signal was recorded."""
    measured, steps = _run(case, seed, GuardConfig())
    event = _event(measured.events[-1])
    assert measured.outcome is Outcome.UNSTABLE, "a signal was recorded, but the guard did not stop"
    assert event == final(truth), f"recorded {final(truth)}, stopped by {event}"
    return {"reason": measured.reason, "epochs": round((measured.events[-1].step + 1) / steps, 2)}


def key(case: Case, seed: int) -> str:
    return f"{case.task.name} / {case.group} / {case.name} / {seed}"


def measure(results: dict[str, Any], wanted: list[tuple[Case, int]], save: bool) -> None:
    """Run what is missing."""
    for case, seed in wanted:
        name = key(case, seed)
        run = results["runs"].get(name) or watched(case, seed)
        if "guarded" in run or (name in results["runs"] and final(run) is None):
            continue
        if final(run) is not None:
            run["guarded"] = guarded(case, seed, run)
        results["runs"][name] = run
        print(name, run["score"], run.get("guarded", ""), f"{run['wall_s']} s", flush=True)
        if save:
            write(results)


def write(results: dict[str, Any]) -> None:
    """One line a run."""
    runs = ",\n".join(f"  {json.dumps(name)}: {json.dumps(run)}" for name, run in results["runs"].items())
    text = f'{{"runs": {{\n{runs}\n}},\n"overhead": {json.dumps(results["overhead"])}}}\n'
    write_atomically(RESULTS, text)


OVERHEAD = {
    "micro, 8 px, batch of 64": (MICRO, 8, 64, 2000),
    "resnet18, 64 px, batch of 16": (Backbone(name="resnet18", stem="imagenet"), 64, 16, 320),
}
"""Backbone, side of the images, batch size, steps."""
BLOCK = 10
"""Steps that are timed together: one of them is watched, two of the first fifty."""


class _Sleepy(Guard):
    """Answers only while it is awake."""

    awake = True

    def observe(self, seen: Observation) -> StabilityEvent | None:
        return super().observe(seen) if self.awake else None


class _SleepyInspector(Inspector):
    """Watches only while the guard is awake."""

    def watch(self) -> None:
        if _Sleepy.awake:
            super().watch()


def overhead() -> dict[str, list[float]]:
    """CPU time of ten steps with the guard over as many without it, neighbours in one training run."""
    ratios = {}
    dual = StageFusion(pattern="p4", attention="cbam", gamma_skip_init=0.05, learnable=True)
    for name, (backbone, image_size, batch_size, steps) in OVERHEAD.items():
        data = open_data(
            DataConfig(source="cluttered-digits", image_size=image_size, num_train=steps * batch_size, augment=False)
        )
        recipe = _recipe(epochs=1, batch_size=batch_size)
        for fusion, stage in (("plain", StageFusion()), ("p4-cbam everywhere", dual)):
            arch = Architecture(backbone=backbone, num_classes=10, in_chans=1, stages=(stage,) * 4)
            ratios[f"{name}, {fusion}"] = _ratios(arch, data, recipe, steps)
            print(name, fusion, f"{median(ratios[f'{name}, {fusion}']) - 1:+.2%}", flush=True)
    return ratios


def _ratios(arch: Architecture, data: DataSource, recipe: TrainingConfig, steps: int) -> list[float]:
    """The guard sleeps in every other block of steps; which of two neighbours comes first alternates."""
    stamps: list[float] = []

    def before_step() -> bool:
        step = len(stamps)
        stamps.append(time.process_time())
        block = step // BLOCK
        _Sleepy.awake = block % 4 in (0, 3)
        return step == steps - 1  # no validation

    with (
        patch.object(training_run, "Guard", _Sleepy),
        patch.object(training_run, "Inspector", _SleepyInspector),
        suppress(Interrupted),
    ):
        train(arch, data, recipe, seed=0, guard=RECORDING, should_stop=before_step)
    blocks = [b - a for a, b in pairwise(stamps[::BLOCK])]
    pairs = list(zip(blocks[::2], blocks[1::2], strict=False))[1:]  # the first warms up
    return [a / b if pair % 2 else b / a for pair, (a, b) in enumerate(pairs)]


@dataclass(frozen=True)
class Judged:
    """One run and what became of it."""

    name: str
    task: str
    group: str
    held_out: bool
    run: dict[str, Any]
    failed: bool

    @property
    def stopped(self) -> bool:
        return "guarded" in self.run

    @property
    def saved(self) -> float:
        """Share of the epochs that the guard has saved."""
        return 1 - self.run["guarded"]["epochs"] / len(self.run["epochs"]) if self.stopped else 0.0

    def speaks(self, signal: str) -> bool:
        return any(event[0] == signal for event in self.run["events"])


def judged(runs: dict[str, Any]) -> list[Judged]:
    """Which runs failed."""
    plain: dict[str, list[float]] = {}
    for name, run in runs.items():
        task, group, network, _ = name.split(" / ")
        if (group, network) == ("unharmed", "plain"):
            plain.setdefault(task, []).append(run["score"])
    found = []
    for name, run in runs.items():
        task, group, _, seed = name.split(" / ")
        middle = (CHANCE + median(plain[task])) / 2 if task in plain else 0.5
        finite = all(v is not None for epoch in run["epochs"] for v in epoch)
        held_out = int(seed) in TASKS[task].held_out
        found.append(Judged(name, task, group, held_out, run, not finite or run["score"] < middle))
    return found


def table(results: dict[str, Any]) -> str:
    """Markdown: what was planted and what became of it, the figures with Wilson intervals, the misses one by one."""
    everything = sorted(judged(results["runs"]), key=lambda one: list(TASKS).index(one.task))
    held_out = [one for one in everything if one.held_out]
    lines = [
        "| task | configuration | runs | failed | of these stopped | epochs saved | ended well | of these stopped |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for task, group in dict.fromkeys((one.task, one.group) for one in everything):
        those = [one for one in everything if (one.task, one.group) == (task, group)]
        lines.append(f"| {task} | {group} | {_counts(those)} |")
    lines += [f"| **all** | | {_counts(everything)} |", f"| **held-out seeds** | | {_counts(held_out)} |", ""]
    for those, which in ((everything, "all seeds"), (held_out, "held-out seeds")):
        lines += [_share(those, True, f"Recall, {which}"), _share(those, False, f"False prunes, {which}")]
    lines.append("")
    for failed, text in ((True, "Failed and not stopped"), (False, "Ended well and stopped")):
        names = [
            f"{one.name} ({one.run['score']:.3f}{'' if failed else '; ' + one.run['guarded']['reason']})"
            for one in everything
            if one.failed is failed is not one.stopped
        ]
        lines.append(f"- {text}: {', '.join(names) or 'none'}.")
    return "\n".join([*lines, "", *_signals(everything), "", *_overhead(results["overhead"])])


def _signals(everything: list[Judged]) -> list[str]:
    ended = Counter(one.run["guarded"]["reason"] for one in everything if one.stopped)
    lines = ["| signal | spoke in failed runs | in runs that ended well | ended runs |", "|---|---:|---:|---:|"]
    for signal in SIGNALS:
        failed, well = (sum(o.speaks(signal.name) for o in everything if o.failed is f) for f in (True, False))
        lines.append(f"| `{signal.name}` | {failed} | {well} | {ended[signal.name]} |")
    return lines


def _overhead(ratios: dict[str, list[float]]) -> list[str]:
    lines = ["| overhead of the guard | pairs | median | 95 % interval |", "|---|---:|---:|---:|"]
    for name, values in ratios.items():
        low, high = _bootstrap(values)
        lines.append(f"| {name} | {len(values)} | {median(values) - 1:+.2%} | {low - 1:+.2%} to {high - 1:+.2%} |")
    return lines


def _bootstrap(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(low), float(high)


def _counts(those: list[Judged]) -> str:
    failed, well = ([one for one in those if one.failed is f] for f in (True, False))
    saved = f"{sum(one.saved for one in failed) / len(failed):.0%}" if failed else ""
    counts = (len(those), len(failed), sum(one.stopped for one in failed), saved)
    return " | ".join(str(n) for n in (*counts, len(well), sum(one.stopped for one in well)))


def _share(those: list[Judged], failed: bool, label: str) -> str:
    chosen = [one.stopped for one in those if one.failed is failed]
    if not chosen:
        return f"{label}: no such runs.  "
    low, high = wilson_interval(sum(chosen) / len(chosen), len(chosen))
    return f"{label}: {sum(chosen)} of {len(chosen)}, {sum(chosen) / len(chosen):.1%} [{low:.1%}, {high:.1%}].  "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--only", default="", help="groups that begin so, for example lr")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these of each task's seeds")
    parser.add_argument("--overhead", action="store_true", help="measure the overhead, and nothing else")
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}, "overhead": {}}
    torch.set_num_threads(1)
    if args.overhead:
        results["overhead"] = overhead()
    else:
        tasks = [TASKS[name] for name in args.tasks]
        every = [(c, s) for task in tasks for s in task.seeds + task.held_out for c in cases(task, s)]
        wanted = [(c, s) for c, s in every if c.group.startswith(args.only) and s in (args.seeds or (s,))]
        measure(results, wanted, not args.no_write)
    text = table(results)
    print(text)
    if args.no_write:
        return
    write(results)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    write_atomically(PAGE, f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
