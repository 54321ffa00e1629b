"""Several processes that train on one device at once, as workers that share it do."""

import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from typing import Any

import torch

from benchmarks.card.setting import Setting, settings
from nas.measurement import EpochRecord
from nas.training.run import train

COUNTS = (1, 2, 4, 8)
EPOCHS = {"resnet_micro 24 px": 5, "resnet18 32 px": 3}
START_S = 120.0
"""What the slowest of them may need to be ready."""


def crowds(device: str) -> dict[str, Any]:
    """Images a second of all workers together, and the memory that all of them take, by network and number."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    found: dict[str, Any] = {}
    for name, epochs in EPOCHS.items():
        found[name] = {}
        for count in COUNTS if device != "cpu" else COUNTS[:2]:
            barrier, results = context.Barrier(count), context.SimpleQueue()
            arguments = (settings(device)[name], device, epochs, barrier, results)
            processes = [context.Process(target=_work, args=arguments) for _ in range(count)]
            for process in processes:
                process.start()
            spans = [results.get() for _ in processes]
            for process in processes:
                process.join()
            elapsed = max(end for _, end, _, _ in spans) - min(start for start, _, _, _ in spans)
            found[name][str(count)] = {
                "images_per_s": round(sum(images for *_, images, _ in spans) / elapsed),
                "memory_gb": round(max(memory for *_, memory in spans) / 1e9, 2),
            }
    return found


def _work(setting: Setting, device: str, epochs: int, barrier: Barrier, results: Any) -> None:
    """Warm up, wait for the others, train; tells beginning, end, images and the memory that is taken on the device."""
    data = setting.data()
    train(setting.architecture, data, setting.training(device, epochs=1), seed=0)
    taken = 0

    def look(_: EpochRecord) -> None:
        nonlocal taken
        if device != "cpu":
            free, total = torch.cuda.mem_get_info(device)
            taken = max(taken, total - free)

    barrier.wait(START_S)
    started = time.monotonic()
    train(setting.architecture, data, setting.training(device, epochs=epochs), seed=0, on_epoch=look)
    images = epochs * (setting.num_train + data.summary.num_val)
    results.put((started, time.monotonic(), images, taken))
