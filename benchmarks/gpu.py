"""Whether everything runs on a GPU, and how fast: worker, several of them, loader, blocks, launches, scores, a study.

    python benchmarks/gpu.py                          # every part that the results do not hold yet, ≤ 8 minutes
    python benchmarks/gpu.py --only resnet18 crowds   # these, again
    python benchmarks/gpu.py --write                  # … and the table goes into docs/speed.md

Each part is a process of its own: one that breaks, or takes too long, is told of in the table and stops no other. What
a part gives is stored at once, with card, driver and versions. ``--device cpu`` runs the same with tiny sizes.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import lightning  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402

from benchmarks import blocks  # noqa: E402
from benchmarks.card import loading, searching, steps, training, workers  # noqa: E402
from benchmarks.markdown import fill, markdown  # noqa: E402
from nas.documents import write_atomically  # noqa: E402

RESULTS = HERE / "results" / "gpu.json"
PAGE = HERE.parent / "docs" / "speed.md"
FAILED = "failed"

Results = dict[str, Any]
Row = tuple[str, str, str]
"""What, the aim, the figure."""

PARTS: dict[str, Callable[[str], Any]] = {
    "tests": searching.tests,
    "micro": partial(training.throughput, name="resnet_micro 24 px"),
    "resnet18": partial(training.throughput, name="resnet18 32 px"),
    "resnet50": partial(training.throughput, name="resnet50 224 px"),
    "crowds": workers.crowds,
    "blocks": steps.blocks_in_bf16,
    "study": searching.study,
    "scores": searching.scores,
    "loading": loading.loading,
    "exactness": training.exactness,
    "launches": steps.launches,
    "compiled": steps.compiled,
}
LIMIT_S = 150.0
"""A part that takes longer is ended."""
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.gpu"])


def machine(device: str) -> dict[str, Any]:
    """Card, driver and versions."""
    found = {
        "card": blocks.processor(),
        "driver": None,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "lightning": lightning.__version__,
    }
    if device != "cpu":
        index = str(torch.device(device).index or 0)
        query = ["nvidia-smi", "-i", index, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        name, driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().split(", ")
        found |= {"card": name, "driver": driver}
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found


def measure(part: str, device: str, limit_s: float) -> Any:
    """What a part gives in a process of its own, forked from one that has the imports; or why it gave nothing."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_measure, args=(sender, part, device))
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit_s):
            return {FAILED: f"took longer than {limit_s:.0f} s"}
        return receiver.recv()
    except EOFError:
        process.join()
        return {FAILED: f"ended with {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def _measure(sender: Connection, part: str, device: str) -> None:
    try:
        sender.send(PARTS[part](device))
    except Exception as error:  # told to whoever waits, then raised
        traceback.print_exc()
        sender.send({FAILED: f"{type(error).__name__}: {error}".splitlines()[0]})
        raise


def run(results: Results, asked: list[str] | None, device: str, limit_s: float, path: Path) -> None:
    """Measure what is asked for, or what is missing or was measured elsewhere; store each part as it ends."""
    here = machine(device)
    for part in asked or PARTS:
        stored = results.get(part)
        if not asked and stored and stored["machine"] == here and FAILED not in stored["found"]:
            continue
        started = time.perf_counter()
        found = measure(part, device, limit_s)
        seconds, date = round(time.perf_counter() - started, 1), datetime.now(UTC).date().isoformat()
        results[part] = {"machine": here, "date": date, "seconds": seconds, "found": found}
        print(f"{part}: {seconds} s", json.dumps(found), flush=True)
        write_atomically(path, json.dumps(results, indent=1) + "\n")


# The table


def rows_of_tests(found: Results) -> list[Row]:
    return [("tests of the group `gpu`", "none fails", ", ".join(f"{n} {what}" for what, n in found.items()))]


def rows_of_throughput(found: Results) -> list[Row]:
    return [
        (
            f"worker ÷ bare loop, {name}",
            "≥ 0.95" if name in THROUGHPUT_AIMS else "",
            f"{one['ratio']:.2f} ({one['low']:.2f}–{one['high']:.2f}); {one['images_per_s']:,} images/s",
        )
        for name, one in found.items()
    ]


THROUGHPUT_AIMS = ("resnet18 32 px, bf16, channels last", "resnet50 224 px, bf16, channels last")
CROWD_AIMS = {"resnet_micro 24 px": "≥ 2.5", "resnet18 32 px": "≥ 1.5"}
BLOCK_AIMS = ("p2-cbam", "p4-cbam")


def rows_of_crowds(found: Results) -> list[Row]:
    rows = []
    for name, counts in found.items():
        one = counts["1"]["images_per_s"]
        best = max(count["images_per_s"] for count in counts.values())
        for number, count in counts.items():
            pace, memory = count["images_per_s"], count["memory_gb"]
            aim = CROWD_AIMS[name] if number != "1" and pace == best else ""
            what = f"{'one worker' if number == '1' else f'all of {number} workers'} ÷ one, {name}, bf16"
            rows.append((what, aim, f"{pace / one:.2f}; {pace:,} images/s, {memory:.1f} GB"))
    return rows


def rows_of_blocks(found: list[Results]) -> list[Row]:
    return [
        (
            f"step ÷ plain, resnet50 224 px, bf16, {one['fusion']}",
            "≤ 1.25" if one["fusion"] in BLOCK_AIMS else "",
            f"{one['step_ratio']:.2f} ({one['spread'][0]:.2f}–{one['spread'][1]:.2f}); {one['step_ms']:.1f} ms, "
            f"memory {one['memory_ratio']:.2f}",
        )
        for one in found
    ]


def rows_of_study(found: Results) -> list[Row]:
    what = f"24 trials × 5 epochs on digits, wall clock: peer ÷ ours, {found['workers']} workers"
    return [(what, "≥ 3", f"{found['ratio']:.2f}; {found['peer_s']:.0f} s, {found['ours_s']:.0f} s")]


def rows_of_scores(found: Results) -> list[Row]:
    return [
        (f"scores an hour of a shared network, {name}, {one['num_val']:,} images", "", f"{one['scores_per_h']:,}")
        for name, one in found.items()
    ]


def rows_of_loading(found: Results) -> list[Row]:
    return [(f"loader, images/s, {name}", "", f"{pace:,.0f}") for name, pace in found.items()]


def rows_of_exactness(found: Results) -> list[Row]:
    rows = []
    for mode, one in found.items():
        if "refused" in one:
            rows.append((f"two runs of one seed, {mode} operations", "", one["refused"]))
            continue
        for key, what in (("again", "two runs of one seed"), ("resumed", "a run and one that was interrupted")):
            loss, accuracy = one[key]["train_loss"], one[key]["val_accuracy"]
            text = "the same bits" if loss == accuracy == 0 else f"{loss:.1g} of the loss, {100 * accuracy:.1f} points"
            rows.append((f"{what}, {mode} operations, furthest apart", "", f"{text}; {one['epoch_s']:.2f} s an epoch"))
    return rows


def rows_of_launches(found: Results) -> list[Row]:
    return [
        (
            f"step of a bare loop ÷ eager, {name}, bf16, {way}",
            "",
            f"{one['step_ms'] / ways['eager']['step_ms']:.2f}; {one['step_ms']:.2f} ms, "
            f"ready after {one['ready_s']:.1f} s",
        )
        for name, ways in found.items()
        for way, one in ways.items()
    ]


ROWS: dict[str, Callable[[Any], list[Row]]] = {
    "tests": rows_of_tests,
    "micro": rows_of_throughput,
    "resnet18": rows_of_throughput,
    "resnet50": rows_of_throughput,
    "crowds": rows_of_crowds,
    "blocks": rows_of_blocks,
    "study": rows_of_study,
    "scores": rows_of_scores,
    "loading": rows_of_loading,
    "exactness": rows_of_exactness,
    "launches": rows_of_launches,
    "compiled": rows_of_launches,
}


def rows(results: Results) -> list[Row]:
    """Every part in its order; what is missing or broke says so."""
    table: list[Row] = []
    for part, make in ROWS.items():
        found = results[part]["found"] if part in results else {FAILED: "not measured"}
        table += [(f"the part `{part}`", "", found[FAILED])] if FAILED in found else make(found)
    return table


def report(results: Results) -> str:
    """Where and when the parts were measured, and the table."""
    places = {json.dumps(one["machine"]): (one["machine"], one["date"]) for one in results.values()}
    lines = [
        f"{here['card']}, driver {here['driver']}, {here['cores']} CPU cores, Python {here['python']}, torch "
        f"{here['torch']}, timm {here['timm']}, lightning {here['lightning']}; {date}: "
        f"{', '.join(part for part, one in results.items() if one['machine'] == here)}."
        for here, date in places.values()
    ]
    return "\n".join([*lines, "", *markdown(("figure", "aim", "measured"), rows(results))])


def main() -> int:
    """Measure what is wanted, store it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="measure these again; default: what is missing")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds that a part may take")
    parser.add_argument("--write", action="store_true", help="put the table into docs/speed.md")
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    results: Results = json.loads(args.results.read_text()) if args.results.exists() else {}
    run(results, args.only, args.device, args.limit, args.results)
    text = report(results)
    print(text)
    if args.write:
        write_atomically(PAGE, fill(PAGE.read_text(encoding="utf-8"), {"gpu": text}))
    return int(any(FAILED in one["found"] for one in results.values()))


if __name__ == "__main__":
    sys.exit(main())
