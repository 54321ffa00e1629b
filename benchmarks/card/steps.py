"""One training step: of every pattern × attention beside the plain network, and as CUDA graph or compiled."""

import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import blocks
from benchmarks.card.setting import CLASSES, Setting, settings, wait
from nas.fusion.models import build_model

REPEATS, STEPS = 5, 20
WARM_UP = 3


def blocks_in_bf16(device: str) -> list[dict[str, Any]]:
    """Step and memory of each pattern × attention, as `benchmarks/blocks.py` measures them; resnet50, bf16."""
    size = {"batch": 64, "size": 224, "rounds": 10} if device != "cpu" else {"batch": 2, "size": 32, "rounds": 2}
    asked = Namespace(only=None if device != "cpu" else ["p2-cbam"], device=device, precision="bf16", **size)
    found = blocks.measure("resnet50" if device != "cpu" else "resnet10t", asked)
    return [
        {
            "fusion": cost.fusion,
            "step_ms": round(median(cost.step_ms), 2),
            "step_ratio": cost.step_ratio,
            "spread": cost.step_ratio_spread,
            "memory_ratio": cost.memory_ratio,
        }
        for cost in found
    ]


class _Step:
    """Forward, backward and update of one batch in bf16, channels last."""

    def __init__(self, setting: Setting, device: str) -> None:
        torch.manual_seed(0)
        size, layout = (setting.batch_size, 3, setting.side, setting.side), torch.channels_last
        self.images = torch.randn(size, device=device).to(memory_format=layout)
        self.labels = torch.randint(CLASSES, (setting.batch_size,), device=device)
        self.model: nn.Module = build_model(setting.architecture).to(device, memory_format=layout).train()
        rate = torch.tensor(0.01, device=device)  # a graph would keep the rate that a number had
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=rate, momentum=0.9, nesterov=True, fused=device != "cpu"
        )
        self.device = device

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.images.device.type, torch.bfloat16, cache_enabled=False):
            loss = F.cross_entropy(self.model(self.images), self.labels)
        loss.backward()
        self.optimizer.step()

    def eager(self) -> Callable[[], None]:
        return self

    def graph(self) -> Callable[[], None]:
        """The whole step captured once."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self()
        return graph.replay

    def compiled(self, mode: str) -> Callable[[], None]:
        self.model = torch.compile(self.model, mode=mode)
        return self


Prepare = Callable[[_Step], Callable[[], None]]
COMPILED: dict[str, Prepare] = {
    "torch.compile": partial(_Step.compiled, mode="default"),
    "torch.compile, reduce-overhead": partial(_Step.compiled, mode="reduce-overhead"),
}


def launches(device: str) -> dict[str, Any]:
    """A step launched operation by operation, and as one CUDA graph."""
    return _each_way(device, {"eager": _Step.eager, **({"CUDA graph": _Step.graph} if device != "cpu" else {})})


def compiled(device: str) -> dict[str, Any]:
    """A step whose network is compiled; a CPU, which takes minutes for that, shows nothing but the loop around it."""
    return _each_way(device, {"eager": _Step.eager, **(COMPILED if device != "cpu" else {})})


def _each_way(device: str, ways: dict[str, Prepare]) -> dict[str, Any]:
    """Milliseconds of a step, and the seconds until the first ones are done, by network and way."""
    found: dict[str, Any] = {}
    for name in ("resnet18 32 px", "resnet_micro 24 px"):
        for way, prepare in ways.items():
            step = _Step(settings(device)[name], device)
            started = time.perf_counter()
            run = prepare(step)
            for _ in range(WARM_UP):
                run()
            wait(device)
            ready_s = time.perf_counter() - started
            found.setdefault(name, {})[way] = {"step_ms": _step_ms(run, device), "ready_s": round(ready_s, 2)}
            print(name, way, found[name][way], flush=True)
    return found


def _step_ms(run: Callable[[], None], device: str) -> float:
    repeats, count = (REPEATS, STEPS) if device != "cpu" else (1, 1)
    times = []
    for _ in range(repeats):
        wait(device)
        started = time.perf_counter()
        for _ in range(count):
            run()
        wait(device)
        times.append((time.perf_counter() - started) * 1e3 / count)
    return round(median(times), 3)
