"""What each pattern × attention costs in training, beside the plain network, measured in one run.

    python benchmarks/blocks.py                      # writes benchmarks/results/blocks.json and docs/blocks.md
    python benchmarks/blocks.py --only p2-cbam --backbones resnet18 --rounds 20 --no-write

Every round times one step of every network, in an order that changes from round to round, so that whatever else
the machine does falls on all of them alike. A ratio is the median over the rounds of a network's time divided by the
plain network's time of the same round; its spread is the interquartile range.
"""

import argparse
import gc
import json
import os
import platform
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles

import timm
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from nas import Architecture, Backbone, StageFusion, build_model
from nas.architecture import ATTENTIONS
from nas.documents import write_atomically
from nas.fusion.cost import count_macs, count_params

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "blocks.json"
TABLE = HERE.parent / "docs" / "blocks.md"
BEGIN, END = "<!-- blocks: begin -->", "<!-- blocks: end -->"
PATTERNS = ("p1", "p2", "p3", "p4")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One network beside the plain one; ratios are to the plain network of the same backbone."""

    backbone: str
    fusion: str
    num_params: int
    macs: int
    """Of one image."""
    step_ms: tuple[float, ...]
    """Forward and backward of one batch in training mode, one value a round."""
    memory_bytes: int
    """Most that is held at any moment of a step: weights, gradients, activations."""
    step_ratio: float
    step_ratio_spread: tuple[float, float]
    """Lower and upper quartile."""
    memory_ratio: float
    macs_ratio: float


def fusion(pattern: str, attention: str) -> StageFusion:
    """The dearest form: learned strengths, and in p4 a module on each path."""
    if pattern == "p4":
        return StageFusion(pattern="p4", attention=attention, gamma_skip_init=0.05, learnable=True)
    return StageFusion(pattern=pattern, attention=attention, lambda_init=0.5, learnable=True)


def networks(backbone: str, only: list[str] | None, device: torch.device) -> dict[str, nn.Module]:
    """The plain network first, then one for each pattern × attention, in every stage."""
    fusions = {"plain": StageFusion()}
    fusions |= {f"{p}-{a}": fusion(p, a) for p in PATTERNS for a in ATTENTIONS}
    chosen = {name: f for name, f in fusions.items() if name == "plain" or not only or name in only}
    models = {}
    for name, stage in chosen.items():
        arch = Architecture(backbone=Backbone(name=backbone), num_classes=1000, stages=(stage,) * 4)
        models[name] = build_model(arch).to(device, memory_format=torch.channels_last).train()
    return models


def step(model: nn.Module, x: torch.Tensor, precision: str) -> None:
    """Forward and backward; gradients are dropped first, as an optimiser loop does."""
    model.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = model(x)
    logits.float().square().mean().backward()


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_ms(model: nn.Module, x: torch.Tensor, precision: str) -> float:
    """One step; on one CPU thread in CPU time, which other processes on the machine disturb least."""
    alone = x.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    synchronise(x.device)
    started = clock()
    step(model, x, precision)
    synchronise(x.device)
    return (clock() - started) * 1e3


def peak_bytes(model: nn.Module, x: torch.Tensor, precision: str) -> int:
    """Weights plus the most that one step allocates on top of them (gradients included)."""
    model.zero_grad(set_to_none=True)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if x.device.type == "cuda":
        before = torch.cuda.memory_allocated(x.device)
        torch.cuda.reset_peak_memory_stats(x.device)
        step(model, x, precision)
        return weights + torch.cuda.max_memory_allocated(x.device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        step(model, x, precision)
    changes = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        peak = max(peak, held)
    return weights + peak


def measure(backbone: str, args: argparse.Namespace) -> list[Cost]:
    device = torch.device(args.device)
    torch.manual_seed(0)
    models = networks(backbone, args.only, device)
    x = torch.randn(args.batch, 3, args.size, args.size, device=device).to(memory_format=torch.channels_last)
    memory = {name: peak_bytes(model, x, args.precision) for name, model in models.items()}  # warms up as well
    times: dict[str, list[float]] = {name: [] for name in models}
    order, shuffle = list(models), random.Random(0)
    gc.disable()
    for _ in range(args.rounds):
        shuffle.shuffle(order)
        for name in order:
            times[name].append(step_ms(models[name], x, args.precision))
    gc.enable()
    size = (3, args.size, args.size)
    macs = {name: count_macs(model, size) for name, model in models.items()}
    costs = []
    for name, model in models.items():
        ratios = [own / plain for own, plain in zip(times[name], times["plain"], strict=True)]
        low, _, high = quantiles(ratios, n=4)
        costs.append(
            Cost(
                backbone=backbone,
                fusion=name,
                num_params=count_params(model),
                macs=macs[name],
                step_ms=tuple(round(t, 3) for t in times[name]),
                memory_bytes=memory[name],
                step_ratio=median(ratios),
                step_ratio_spread=(low, high),
                memory_ratio=memory[name] / memory["plain"],
                macs_ratio=macs[name] / macs["plain"],
            )
        )
    return costs


def table(costs: list[Cost], conditions: dict[str, object]) -> str:
    """Markdown: conditions, then one table for each backbone."""
    lines = [
        f"Measured with torch {conditions['torch']} on {conditions['processor']}, {conditions['threads']} thread(s): "
        f"batch {conditions['batch']}, {conditions['size']}×{conditions['size']} pixels, {conditions['precision']}, "
        f"channels_last, {conditions['rounds']} rounds. The network carries the fusion in all four stages, λ and γ "
        "learned, reduction 16; p4 has `eca` on the skip. Step: forward and backward, ratio to plain (quartiles).",
    ]
    for backbone in dict.fromkeys(c.backbone for c in costs):
        own = [c for c in costs if c.backbone == backbone]
        lines += ["", f"### {backbone}", "", "| fusion | step, ms | step | memory | MACs | parameters |"]
        lines += ["|---|---:|---:|---:|---:|---:|"]
        for c in own:
            low, high = c.step_ratio_spread
            lines.append(
                f"| {c.fusion} | {median(c.step_ms):.0f} | {c.step_ratio:.2f} ({low:.2f}–{high:.2f}) "
                f"| {c.memory_ratio:.2f} | {c.macs_ratio:.3f} | {c.num_params / own[0].num_params:.3f} |"
            )
    return "\n".join(lines)


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--only", nargs="+", help="for example p2-cbam; default: all")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=96, help="side of the image in pixels")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--no-write", action="store_true", help="print the table only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    on_gpu = torch.device(args.device).type == "cuda"
    conditions = {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "processor": torch.cuda.get_device_name(args.device) if on_gpu else processor(),
        "cores": os.cpu_count(),
        **{key: getattr(args, key) for key in ("batch", "size", "rounds", "threads", "device", "precision")},
    }
    costs = [cost for backbone in args.backbones for cost in measure(backbone, args)]
    text = table(costs, conditions)
    print(text)
    if args.no_write:
        return
    content = {"conditions": conditions, "costs": [asdict(cost) for cost in costs]}
    write_atomically(RESULTS, json.dumps(content, separators=(",", ":")) + "\n")
    page = TABLE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    write_atomically(TABLE, f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
