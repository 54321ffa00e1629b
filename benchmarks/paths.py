"""Whether shared networks rank better when a step takes several paths, or the sandwich of J. Yu and T. Huang.

    python -m benchmarks.paths              # what is missing, then its part of docs/fidelity.md

One network after another is trained on FusionBench's space and recipe by a plain loop, scores all its architectures and
is held against the table. Paths of a step add up their gradients. The sandwich rule (Universally Slimmable Networks and
Improved Training Techniques, 2019, https://arxiv.org/abs/1903.05134) takes the smallest network, the largest and two at
random: here the plain one, and attention on both branches of every stage. Results are kept in
benchmarks/results/paths.jsonl.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.fidelity import PAGE
from benchmarks.markdown import fill, markdown
from benchmarks.result_file import FileStore
from nas.architecture import Architecture
from nas.bench.table import DATA, TRAINING, Table, bench_space, load_table
from nas.documents import write_atomically
from nas.estimate.brief import brief_config
from nas.estimate.ranking import against_rest, bootstrapped, regret, spearman
from nas.estimate.shared_scoring import SharedScorer
from nas.estimate.shared_training import TrainedNetwork, fair_paths
from nas.estimate.supernet import SharedNetwork
from nas.fusion.models import open_branches
from nas.space.space import SearchSpace
from nas.training.data import open_data
from nas.training.data.source import DataSource
from nas.training.module import learning_rate, parameter_groups

RESULTS = Path(__file__).parent / "results" / "paths.jsonl"
TASK = "fusion-bench, recipe 1"
SEEDS = range(2000, 2004)
SPENDINGS = (4, 8, 16)
"""Epochs times paths a step: how many paths see each batch of the data."""

Paths = Iterator[Architecture]


def several(count: int) -> Callable[[SearchSpace, Paths], Iterator[list[Architecture]]]:
    """So many fair paths a step."""
    return lambda _, paths: iter(lambda: list(islice(paths, count)), None)


def sandwich(space: SearchSpace, paths: Paths) -> Iterator[list[Architecture]]:
    """Plain, the largest, and two fair paths a step."""
    uniform = {a.stages[0].pattern: a for a in space.architectures() if len({s.pattern for s in a.stages}) == 1}
    return iter(lambda: [uniform["none"], uniform["p4"], *islice(paths, 2)], None)


WAYS: dict[str, tuple[int, Callable[[SearchSpace, Paths], Iterator[list[Architecture]]]]] = {
    "1 path a step": (1, several(1)),
    "2 paths a step": (2, several(2)),
    "4 paths a step": (4, several(4)),
    "sandwich, 4 paths a step": (4, sandwich),
}


def trained(way: str, epochs: int, seed: int, data: DataSource) -> SharedNetwork:
    """A shared network after so many epochs."""
    torch.manual_seed(seed)
    space, config = bench_space(), brief_config(TRAINING, epochs)
    network = SharedNetwork(space, "batch").to(memory_format=torch.channels_last)
    open_branches(network)
    groups = parameter_groups(network, config.weight_decay)
    optimizer = torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=True)
    batches = data.train_batches(batch_size=config.batch_size, seed=seed, on=torch.device("cpu"))
    network.train()
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        paths = WAYS[way][1](space, fair_paths(space, seed, epoch))
        for step, (images, labels) in enumerate(batches, start=epoch * len(batches)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps_per_epoch=len(batches), config=config)
            optimizer.zero_grad(set_to_none=True)
            chosen = next(paths)
            for path in chosen:
                network.set_path(path)
                logits = network(images.contiguous(memory_format=torch.channels_last))
                (F.cross_entropy(logits, labels) / len(chosen)).backward()
            optimizer.step()
    return network


def run(way: str, epochs: int, seed: int, table: Table, data: DataSource) -> dict[str, Any]:
    """Losses of all architectures of the table, and CPU seconds of training and scoring."""
    started = time.process_time()
    network = trained(way, epochs, seed, data)
    train_s = time.process_time() - started
    scorer = SharedScorer(TrainedNetwork(digest="", network=network, epochs=()), data)
    held = {a.digest: a for a in sorted(table.architectures, key=str)}  # those that begin alike
    losses = {digest: scorer.score(architecture).loss for digest, architecture in held.items()}
    return {
        "losses": [round(losses[digest], 4) for digest in table.rows],
        "train_s": round(train_s, 2),
        "score_s": round(time.process_time() - started - train_s, 2),
    }


def runs() -> list[tuple[str, int, int]]:
    """(way, epochs, seed) of every network; all ways spend the same."""
    return [
        (way, spending // count, seed) for spending in SPENDINGS for way, (count, _) in WAYS.items() for seed in SEEDS
    ]


def part(table: Table, results: dict[str, Any]) -> str:
    """The table of the page."""
    truth = table.accuracy[:, :, -1]
    full_s = float(np.nansum(table.cost_s)) / len(table.seeds)
    rows = []
    for way, epochs in dict.fromkeys((way, epochs) for way, epochs, _ in runs()):
        found = [results[key(way, epochs, seed)] for seed in SEEDS]
        scores = -np.array([one["losses"] for one in found])
        each = [against_rest(np.repeat(row[:, None], truth.shape[1], axis=1), truth) for row in scores]
        together = bootstrapped(spearman, scores.mean(0), truth.mean(1))
        cost = float(np.mean([one["train_s"] + one["score_s"] for one in found]))
        rows.append(
            (
                f"{way}, {epochs} epoch{'s' if epochs > 1 else ''}",
                " ".join(f"{float(value):.2f}" for value in each),
                str(together),
                f"{np.mean([regret(row, truth) for row in scores]):.2f}",
                f"{cost:.1f}",
                f"{100 * cost / full_s:.1f} %",
            )
        )
    heads = ("by loss", "each of four, without one seed", "mean of four", "regret of one", "seconds of one", "of full")
    return "\n".join(markdown(heads, rows))


def key(way: str, epochs: int, seed: int) -> str:
    """Name of a run in the store."""
    return f"{way}, {epochs} epochs, seed {seed}"


def main() -> None:
    """Train what is missing, then write the part of the page."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    table, data, store = load_table().complete(), open_data(DATA), FileStore(RESULTS)
    wanted = runs()
    for number, (way, epochs, seed) in enumerate(wanted, start=1):
        if key(way, epochs, seed) not in store.results(TASK):
            store.add(TASK, key(way, epochs, seed), run(way, epochs, seed, table, data))
            print(f"{number}/{len(wanted)} {way}, {epochs} epochs", file=sys.stderr, flush=True)
    content = fill(PAGE.read_text(encoding="utf-8"), {"paths": part(table, store.results(TASK))})
    write_atomically(PAGE, content)


if __name__ == "__main__":
    main()
