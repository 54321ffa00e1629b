"""``nas cost``: parameters, MACs and latency beside the plain network."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.check import ArchitectureFile
from nas.cli.options import Json, OldDevice, OneDevice, one_device

if TYPE_CHECKING:
    from nas.fusion.cost import CostComparison
    from nas.measurement import Cost


def cost(
    architecture_file: ArchitectureFile,
    input_size: Annotated[
        int | None, typer.Option(min=1, metavar="PIXELS", help="Side of the image; default: 224, small stem 32.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in one forward pass.")] = 1,
    devices: OneDevice = "cpu",
    device: OldDevice = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    json_: Json = False,
) -> int:
    """Count and time an architecture against the plain network."""
    from nas.architecture import Architecture
    from nas.fusion.cost import compare_cost
    from nas.training.device import resolve_device

    architecture = Architecture.load(architecture_file)
    place = str(resolve_device(one_device(devices, device)))
    result = compare_cost(architecture, image_size=input_size, batch=batch, device=place, threads=threads)
    if json_:
        content = {"architecture": architecture.digest, **asdict(result), "ratios": result.ratios}
        typer.echo(json.dumps(content, indent=2))
    else:
        typer.echo(f"{architecture.backbone.name}  {architecture}")
        typer.echo(table(result))
    return 0


def table(result: "CostComparison") -> str:
    """One line a quantity: fused, plain, ratio."""

    def latency(cost: "Cost") -> str:
        return f"{cost.latency_ms:.2f} ({cost.latency_low_ms:.2f}-{cost.latency_high_ms:.2f})"

    fused, plain, ratios = result.fused, result.plain, result.ratios
    rows = [
        ("", "this network", "plain", "ratio"),
        ("parameters", f"{fused.num_params:,}", f"{plain.num_params:,}", f"{ratios['num_params']:.4f}"),
        ("MACs", f"{fused.macs:,}", f"{plain.macs:,}", f"{ratios['macs']:.4f}"),
        ("latency, ms", latency(fused), latency(plain), f"{ratios['latency_ms']:.3f}"),
    ]
    lines = [f"{name:<12}{own:>24}{other:>24}{ratio:>10}" for name, own, other, ratio in rows]
    channels, height, width = result.input_size
    threads = f", {result.threads} thread{'s' if result.threads > 1 else ''}" if result.device == "cpu" else ""
    where = f"batch {result.batch} of {channels}×{height}×{width} on {result.device}{threads}; median (quartiles)"
    return "\n".join([*lines, where])
