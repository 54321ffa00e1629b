"""Does the guard stop what fails, spare what ends well, and cost little?

    python benchmarks/guard.py                     # goes on from benchmarks/results/guard.json, writes docs/guard.md
    python benchmarks/guard.py --only lr --seeds 1 --no-write

Every case is trained twice from the same seed: without the guard to the end, which is the truth, and with it.
A run failed where its loss was not finite or its accuracy lies below the middle between chance and the median of
the plain network under the unharmed recipe of the same task; else it ended well. Every run is kept once it is done.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch

from nas.architecture import Architecture, Backbone, StageFusion
from nas.documents import write_atomically
from nas.measurement import Outcome
from nas.space.landmarks import LANDMARKS, landmark_in
from nas.space.space import SearchSpace
from nas.study.records import wilson_interval
from nas.training.config import DataConfig, GuardConfig, TrainingConfig
from nas.training.data import DataSource, open_data
from nas.training.run import train

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "guard.json"
PAGE = HERE.parent / "docs" / "guard.md"
BEGIN, END = "<!-- guard: begin -->", "<!-- guard: end -->"
CHANCE = 0.1

P2_CBAM = StageFusion(pattern="p2", attention="cbam")
P4_WIDE = StageFusion(pattern="p4", attention="cbam", skip_attention="se", gamma_skip_init=3, gamma_residual_init=3.1)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, backbone and the unharmed recipe."""

    name: str
    data: DataConfig
    backbone: Backbone
    training: TrainingConfig


def _recipe(**fields: object) -> TrainingConfig:
    return TrainingConfig.parse({"device": "cpu", "threads": 1, **fields}, "benchmark")


TASKS = {
    task.name: task
    for task in (
        Task(
            name="micro",
            data=DataConfig(num_train=768),
            backbone=Backbone(name="resnet_micro", stem="small"),
            training=_recipe(epochs=8),
        ),
        Task(
            name="resnet50",
            data=DataConfig(image_size=32, num_train=256),
            backbone=Backbone(name="resnet50", stem="imagenet"),
            training=_recipe(epochs=6, batch_size=16, learning_rate=0.05, zero_init_branches=True),
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


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run."""

    outcome: str
    reason: str | None
    score: float | None
    epochs: float
    """Run in full, plus the begun one's share."""
    finite: bool
    events: list[list[object]]
    """(signal, epoch, step, stage, block, value)."""
    wall_s: float


def _fused(task: Task, stages: Sequence[StageFusion]) -> Architecture:
    return Architecture(backbone=task.backbone, num_classes=10, in_chans=1, stages=tuple(stages))


def _space(task: Task, name: str) -> SearchSpace:
    return SearchSpace.load(name).on(backbone=task.backbone, num_classes=10, in_chans=1)


def cases(task: Task, num_random: int) -> Iterator[Case]:
    """The unharmed ones first."""
    space = _space(task, "full")
    landmarks = {name: landmark_in(space, name) for name in LANDMARKS}
    random = np.random.default_rng(7)
    drawn = {f"full-{i}": space.sample(random) for i in range(num_random)}
    recipe = task.training

    def case(group: str, name: str, arch: Architecture, corrupted: bool = False, **changes: object) -> Case:
        training = recipe.model_copy(update=changes)
        return Case(group=group, name=name, task=task, architecture=arch, training=training, corrupted=corrupted)

    if task.name != "micro":
        yield case("unharmed", "plain", landmarks["plain"])
        yield case("unharmed", "se-everywhere", landmarks["se-everywhere"])
        yield case("lr × 30", "plain", landmarks["plain"], learning_rate=30 * recipe.learning_rate)
        yield case("textbook p2-cbam everywhere", "p2-cbam", _fused(task, [P2_CBAM] * 4))
        return
    yield from (case("unharmed", name, arch) for name, arch in {**landmarks, **drawn}.items())
    for name, arch in landmarks.items():
        yield case("lr × 30", name, arch, learning_rate=30 * recipe.learning_rate)
    yield case("γ_s = 3, p4 everywhere", "p4-wide", _fused(task, [P4_WIDE] * 4))
    yield case("textbook p2-cbam everywhere", "p2-cbam", _fused(task, [P2_CBAM] * 4))
    for name in ("plain", "dual-default", "se-post"):
        yield case("corrupted labels", name, landmarks[name], corrupted=True)
    for name in ("plain", "dual-default", "se-post"):
        yield case("batch of 4", name, landmarks[name], batch_size=4)


def opened(task: Task, corrupted: bool) -> DataSource:
    """The task's data, where asked for with training labels that mean nothing."""
    source = open_data(task.data)
    if not corrupted:
        return source
    images, labels = source._parts["train"]
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    source._parts["train"] = (images, shuffled)
    return source


def run(case: Case, guard: GuardConfig, seed: int) -> Run:
    data = opened(case.task, case.corrupted)
    started = time.perf_counter()
    measured = train(case.architecture, data, case.training, seed=seed, guard=guard)
    steps = len(data.train_batches(batch_size=case.training.batch_size, seed=0, on=torch.device("cpu")))
    unstable = measured.outcome is Outcome.UNSTABLE
    return Run(
        outcome=measured.outcome.value,
        reason=measured.reason,
        score=measured.score,
        epochs=(measured.events[-1].step + 1) / steps if unstable else len(measured.epochs),
        finite=all(math.isfinite(e.train_loss) and math.isfinite(e.val_loss) for e in measured.epochs),
        events=[[e.signal, e.epoch, e.step, e.stage, e.block, e.value] for e in measured.events],
        wall_s=time.perf_counter() - started,
    )


def key(case: Case, seed: int) -> str:
    return f"{case.task.name} / {case.group} / {case.name} / {seed}"


def measure(results: dict[str, Any], wanted: list[tuple[Case, int]], save: bool) -> None:
    """Run what is missing: without the guard, then with it."""
    for case, seed in wanted:
        name = key(case, seed)
        pair = results["runs"].setdefault(name, {"budget": case.training.epochs})
        for which, guard in (("without", GuardConfig.off()), ("with", GuardConfig())):
            if which in pair:
                continue
            pair[which] = done = asdict(run(case, guard, seed))
            print(name, which, *(done[k] for k in ("outcome", "reason", "score", "epochs")), flush=True)
            if save:
                write_atomically(RESULTS, json.dumps(results, indent=1) + "\n")


OVERHEAD = {
    "micro, digits": (TASKS["micro"].backbone, DataConfig(num_train=640), {"epochs": 4}),
    "resnet18, 64 px": (
        Backbone(name="resnet18", stem="imagenet"),
        DataConfig(image_size=64, num_train=320),
        {"epochs": 1, "batch_size": 16},
    ),
}


def overhead(pairs: int) -> dict[str, list[float]]:
    """CPU time of `train` with the guard over without it, one ratio a pair, the order alternating."""
    ratios: dict[str, list[float]] = {}
    dual = StageFusion(pattern="p4", attention="cbam", gamma_skip_init=0.05, learnable=True)
    for name, (backbone, data_config, recipe) in OVERHEAD.items():
        data = open_data(data_config)
        for fusion, stage in (("plain", StageFusion()), ("p4-cbam everywhere", dual)):
            arch = Architecture(backbone=backbone, num_classes=10, in_chans=1, stages=(stage,) * 4)
            ratios[f"{name}, {fusion}"] = [_ratio(arch, data, _recipe(**recipe), pair) for pair in range(-1, pairs)][1:]
    return ratios


def _ratio(arch: Architecture, data: DataSource, recipe: TrainingConfig, pair: int) -> float:
    seconds = {}
    guards = {"without": GuardConfig.off(), "with": GuardConfig()}
    for name in sorted(guards, reverse=bool(pair % 2)):
        started = time.process_time()
        ended = train(arch, data, recipe, seed=0, guard=guards[name])
        seconds[name] = time.process_time() - started
        assert ended.outcome is Outcome.COMPLETE
    return seconds["with"] / seconds["without"]


def table(results: dict[str, Any]) -> str:
    """Markdown: what was planted and what became of it, the figures with Wilson intervals, the misses one by one."""
    rows: dict[tuple[str, str], list[tuple[str, dict[str, Any], bool]]] = {}
    middle = {}
    for task in TASKS:
        same = [r for name, r in results["runs"].items() if name.startswith(f"{task} / unharmed / plain /")]
        plain = [r["without"]["score"] for r in same if "without" in r]
        middle[task] = (CHANCE + median(plain)) / 2 if plain else CHANCE
    for name, pair in results["runs"].items():
        if "with" not in pair:
            continue
        task, group, _, _ = name.split(" / ")
        truth = pair["without"]
        failed = not truth["finite"] or truth["score"] is None or truth["score"] < middle[task]
        rows.setdefault((task, group), []).append((name, pair, failed))
    lines = [
        "| task | configuration | runs | failed | of these stopped | ended well | of these stopped | epochs saved |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (task, group), those in rows.items():
        lines.append(f"| {task} | {group} | {len(those)} | {' | '.join(_counts(those))} |")
    everything = [one for those in rows.values() for one in those]
    lines += [f"| **all** | | {len(everything)} | {' | '.join(_counts(everything))} |", ""]
    lines += [_share(everything, True, "Recall"), _share(everything, False, "False prunes"), ""]
    for wrong, text in ((True, "Failed and not stopped"), (False, "Ended well and stopped")):
        names = [
            f"{name} ({pair['without']['score']:.3f}{'; ' + pair['with']['reason'] if not wrong else ''})"
            for name, pair, failed in everything
            if failed is wrong and _stopped(pair) is not wrong
        ]
        lines.append(f"- {text}: {', '.join(names) or 'none'}.")
    reasons = sorted({pair["with"]["reason"] for _, pair, _ in everything if _stopped(pair)})
    counts = (f"{r} {sum(p['with']['reason'] == r for _, p, _ in everything)}" for r in reasons)
    lines += [f"- Reasons: {', '.join(counts)}.", "", "| overhead of the guard | pairs | median | quartiles |"]
    lines += ["|---|---:|---:|---:|"]
    for name, ratios in results["overhead"].items():
        low, _, high = quantiles(ratios, n=4)
        cells = f"{median(ratios) - 1:+.1%} | {low - 1:+.1%} to {high - 1:+.1%}"
        lines.append(f"| {name} | {len(ratios)} | {cells} |")
    return "\n".join(lines)


def _stopped(pair: dict[str, Any]) -> bool:
    return bool(pair["with"]["outcome"] == Outcome.UNSTABLE.value)


def _counts(those: list[tuple[str, dict[str, Any], bool]]) -> list[str]:
    failed = [pair for _, pair, is_failed in those if is_failed]
    well = [pair for _, pair, is_failed in those if not is_failed]
    saved = 1 - sum(p["with"]["epochs"] for p in failed) / sum(p["budget"] for p in failed) if failed else None
    return [
        *(str(n) for n in (len(failed), sum(map(_stopped, failed)), len(well), sum(map(_stopped, well)))),
        "" if saved is None else f"{saved:.0%}",
    ]


def _share(those: list[tuple[str, dict[str, Any], bool]], of_failed: bool, label: str) -> str:
    chosen = [_stopped(pair) for _, pair, failed in those if failed is of_failed]
    if not chosen:
        return f"{label}: no such runs."
    low, high = wilson_interval(sum(chosen) / len(chosen), len(chosen))
    return f"{label}: {sum(chosen)} of {len(chosen)}, {sum(chosen) / len(chosen):.1%} [{low:.1%}, {high:.1%}].  "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--only", help="groups that begin so, for example lr")
    parser.add_argument("--random", type=int, default=8, help="architectures drawn from the space full")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=0, help="measure the overhead afresh with so many pairs")
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--again", action="store_true", help="repeat the guarded runs: the guard has changed")
    args = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}, "overhead": {}}
    if args.again:
        for pair in results["runs"].values():
            pair.pop("with", None)
    torch.set_num_threads(1)
    every = [(c, s) for t in args.tasks for s in range(args.seeds) for c in cases(TASKS[t], args.random)]
    measure(results, [(c, s) for c, s in every if c.group.startswith(args.only or "")], not args.no_write)
    if args.pairs:
        results["overhead"] = overhead(args.pairs)
    text = table(results)
    print(text)
    if args.no_write:
        return
    write_atomically(RESULTS, json.dumps(results, indent=1) + "\n")
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    write_atomically(PAGE, f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
