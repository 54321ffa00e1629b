"""Data in memory: how fast batches come, what training costs around them, and what memory they take.

    python benchmarks/data.py                      # writes benchmarks/results/data.json, prints a table
    python benchmarks/data.py --only loading --no-write

Seconds are CPU time of one thread, runs in turns. "One by one" is how the same images came before they were held in
memory: from torchvision through timm's transforms and its prefetching loader.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks import blocks  # noqa: E402
from benchmarks.epochs import bare_loop, worker_loop  # noqa: E402
from benchmarks.markdown import markdown  # noqa: E402
from benchmarks.paired import Ratio, in_turns, ratio  # noqa: E402
from nas.architecture import Architecture, Backbone  # noqa: E402
from nas.documents import write_atomically  # noqa: E402
from nas.training.config import DataConfig, TrainingConfig  # noqa: E402
from nas.training.data import open_data  # noqa: E402
from nas.training.data.arrays import ArrayData, ArrayPart  # noqa: E402
from nas.training.data.images import ImageData  # noqa: E402
from nas.training.data.listing import ImagePart  # noqa: E402
from nas.training.data.source import Batches, DataSource  # noqa: E402

RESULTS = HERE / "results" / "data.json"
CPU = torch.device("cpu")
BATCH = 128
IN_MEMORY, ONE_BY_ONE = 12_800, 1_280
"""Images that are loaded in a round."""


class Decoded:
    """Images (N, C, H, W) as torchvision's data sets give them."""

    def __init__(self, part: ArrayPart) -> None:
        self.part = part

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        pixels = self.part.images[index].transpose(1, 2, 0)
        return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), int(self.part.labels[index])


def one_by_one(data: ArrayData, part: ArrayPart) -> ImageData:
    """The first images of a part, loaded as image files are."""
    first = np.arange(ONE_BY_ONE)
    listed = ImagePart(Decoded(part), first, part.labels[first])
    return ImageData(DataConfig(source="torch/imagenet:x"), data.summary, {"train": listed, "val": listed})


def made(side: int) -> tuple[ArrayData, ArrayPart]:
    """Noise in colour, shifted and flipped."""
    random = np.random.default_rng(0)
    part = ArrayPart(random.integers(256, size=(IN_MEMORY, 3, side, side), dtype=np.uint8), np.arange(IN_MEMORY) % 10)
    config = DataConfig(source="digits", recipe="cifar")
    return ArrayData(config, lambda _: part, class_names=tuple("0123456789"), num_test=0), part


def seconds_an_image(data: DataSource) -> float:
    """Of an epoch after one that warms up."""
    batches = data.train_batches(batch_size=BATCH, seed=0, on=CPU)
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        started = time.process_time()
        count = sum(len(labels) for _, labels in batches)
    return 1e6 * (time.process_time() - started) / count


def loading(args: argparse.Namespace) -> dict[str, Ratio]:
    """Microseconds an image, one by one ÷ in memory."""
    torch.set_num_threads(1)
    clothes = open_data(DataConfig(source="fashion-mnist", num_train=IN_MEMORY))
    assert isinstance(clothes, ArrayData)
    sets = {"Fashion-MNIST, 28 px": (clothes, clothes._read("train")), "colour, 32 px": made(32)}
    found = {}
    for name, (data, part) in sets.items():
        old = one_by_one(data, part)
        runs = {"in memory": lambda d=data: seconds_an_image(d), "one by one": lambda d=old: seconds_an_image(d)}
        found[name] = ratio(in_turns(runs, args.rounds), "one by one", "in memory")
    return found


class Preloaded(list[tuple[Tensor, Tensor]]):
    """Batches that were made before."""

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same."""


def preloaded(data: DataSource) -> Any:
    """What a bare loop needs of a data set, with nothing left to do for a batch."""

    def held(batches: Callable[..., Batches], **more: Any) -> Callable[..., Preloaded]:
        made_before = Preloaded(batches(batch_size=BATCH, on=CPU, **more))
        return lambda **_: made_before

    return SimpleNamespace(train_batches=held(data.train_batches, seed=0), val_batches=held(data.val_batches))


def training(args: argparse.Namespace) -> dict[str, Ratio]:
    """Epochs of a worker beside those of a bare loop on batches made before; the first of each warms up."""
    torch.set_num_threads(1)
    found = {}
    for name, num_train in (("resnet_micro", 2560), ("resnet18", 256)):
        data = open_data(DataConfig(source="fashion-mnist", num_train=num_train, val_fraction=0.005))
        architecture = Architecture.plain(Backbone(name=name, stem="small"), num_classes=10, in_chans=1)
        config = TrainingConfig(epochs=3, batch_size=BATCH, threads=1, device="cpu")
        held = preloaded(data)
        with tempfile.TemporaryDirectory() as folder:
            runs = {
                "bare": lambda a=architecture, d=held, c=config: min(bare_loop(a, d, c)[1:]),
                "worker": lambda a=architecture, d=data, c=config, f=folder: min(worker_loop(a, d, c, Path(f))),
            }
            found[name] = ratio(in_turns(runs, args.rounds), "bare", "worker")
    return found


def peak(source: str) -> dict[str, int]:
    """Bytes of a process at its largest, which opens a data set and goes through it once; and of the set alone."""
    data = open_data(DataConfig(source=source))
    for batches in (data.train_batches(batch_size=BATCH, seed=0, on=CPU), data.val_batches(batch_size=BATCH, on=CPU)):
        for _ in batches:
            pass
    num_bytes = (data.summary.num_train + data.summary.num_val) * int(np.prod(data.input_size))
    return {"process": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "set": num_bytes}


def memory(_: argparse.Namespace) -> dict[str, Any]:
    """What a process takes beyond the bytes of its set, ÷ the same on digits."""
    line = [sys.executable, __file__, "--peak"]
    found: dict[str, Any] = {
        source: json.loads(subprocess.run([*line, source], check=True, capture_output=True, text=True).stdout)
        for source in ("digits", "fashion-mnist")
    }
    beyond = {source: one["process"] - one["set"] for source, one in found.items()}
    return {**found, "ratio": beyond["fashion-mnist"] / beyond["digits"]}


PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {"loading": loading, "training": training, "memory": memory}


def shown(one: Ratio) -> str:
    return f"{one['ratio']:.2f} ({one['low']:.2f}–{one['high']:.2f})"


def rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """What, and its figure with the range over the rounds."""
    found = []
    for name, one in results.get("loading", {}).items():
        pace = 1e6 / float(np.median(one["values"]["in memory"]))
        found.append((f"{name}: images/s from memory, one core", f"{pace:,.0f}"))
        found.append((f"{name}: from memory ÷ one by one", shown(one)))
    for name, one in results.get("training", {}).items():
        found.append((f"Fashion-MNIST, {name}: images/s of a worker ÷ bare loop on batches made before", shown(one)))
    if "memory" in results:
        what = "memory of a process beyond the bytes of its set, Fashion-MNIST ÷ digits"
        found.append((what, f"{results['memory']['ratio']:.2f}"))
    return found


def main() -> None:
    """Measure what is wanted, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--peak", metavar="SOURCE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(json.dumps(peak(args.peak)))
        return
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = {"torch": torch.__version__, "processor": blocks.processor(), "cores": os.cpu_count()}
    for part in args.only or PARTS:
        results[part] = PARTS[part](args)
        results.setdefault("load", {})[part] = round(os.getloadavg()[0], 1)
        if not args.no_write:
            write_atomically(RESULTS, json.dumps(results, indent=1) + "\n")
    print("\n".join(markdown(("figure", "median (range)"), rows(results))))


if __name__ == "__main__":
    main()
