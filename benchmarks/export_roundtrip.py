"""What leaves by each format and comes back: random architectures of `full` on resnet_micro, the largest difference.

    python benchmarks/export_roundtrip.py            # 50 architectures, two to five minutes
    python benchmarks/export_roundtrip.py --count 5

Expected: no YAML, JSON or digest that differs, 0 for timm, at most 1e-4 for ONNX. The exit code is 1 otherwise.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import timm
import torch

from nas import Architecture
from nas.export.onnx import OnnxModel, write_onnx
from nas.export.timm_folder import write_folder
from nas.export.verify import LOGIT_TOLERANCE

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.export.networks import EXPORTED, PROVENANCE, probes, random_networks

torch.set_num_threads(1)


def round_trip(folder: Path, architecture: Architecture, model: torch.nn.Module) -> dict[str, float]:
    """Largest logit difference by format; for yaml and json 1 where another architecture comes back, else 0."""
    found = {}
    for name in ("yaml", "json"):
        architecture.save(folder / f"a.{name}", PROVENANCE)
        loaded = Architecture.load(folder / f"a.{name}")
        found[name] = float((loaded, loaded.digest) != (architecture.canonical(), architecture.digest))
    write_folder(folder / "timm", model, architecture, **EXPORTED)
    write_onnx(folder / "a.onnx", model, architecture, **EXPORTED)
    networks = {
        "timm": timm.create_model(f"local-dir:{folder / 'timm'}", pretrained=True).eval(),
        "onnx": OnnxModel(folder / "a.onnx"),
    }
    for name, network in networks.items():
        found[name] = (network(probes()) - model(probes())).abs().max().item()
    return found


def main() -> int:
    """Print the largest difference of each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="architectures (default: 50)")
    given = parser.parse_args()
    largest: dict[str, float] = {}
    logits = []
    for architecture, model in random_networks(given.count):
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            for name, difference in round_trip(Path(folder), architecture, model).items():
                largest[name] = max(difference, largest.get(name, 0.0))
            logits.append(model(probes()).abs().max().item())
    print(f"{given.count} architectures, logits up to {max(logits):.3g}")
    for name, difference in largest.items():
        print(f"{name:5} largest difference {difference:.3g}")
    return int(any(difference > LOGIT_TOLERANCE.get(name, 0.0) for name, difference in largest.items()))


if __name__ == "__main__":
    sys.exit(main())
