"""Whether what was written computes what the model in memory computed, asked in a clean process.

``python -m nas.export.verify PATH`` tells of any exported folder or ONNX file whether it is whole. `nas export` runs
the same with a job, before the file or folder gets its name. Shapes: B images, K classes.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas.documents import Document
from nas.errors import NasError, UserError
from nas.export.onnx import OnnxModel
from nas.export.timm_folder import load_folder
from nas.study.config import StudyConfig
from nas.training.config import DataConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.data.source import DataSource

LOGIT_TOLERANCE = {"timm": 0.0, "onnx": 1e-4}
"""Largest difference of a logit, relative to the largest logit where that is above 1."""
SCORE_TOLERANCE = {"32-true": 1e-4, "bf16-mixed": 3e-2, "16-mixed": 1e-2}
"""By precision of the training: logits this near, relative to the largest, may have changed places."""
GPU_TOLERANCE = 1e-2
"""The same for float32 on a GPU, where convolutions round to TF32."""
PROBES = 5

Network = Callable[[Tensor], Tensor]


class Job(Document):
    """What the clean process is to measure."""

    probe: str
    """A safetensors file with ``images`` and the ``logits`` of the model in memory."""
    data: DataConfig
    training: TrainingConfig
    score_tolerance: float
    threads: int


class Verification(Document):
    """What the clean process found."""

    logit_difference: float
    """Largest of the probes."""
    logit_scale: float
    """Largest logit of the probes."""
    num_val: int
    num_correct: int
    """Validation images that were classified correctly."""
    num_correct_least: int
    """… without those that a difference within the tolerance could have decided,"""
    num_correct_most: int
    """… and with those."""

    @property
    def score(self) -> float:
        """The validation accuracy, measured again."""
        return self.num_correct / self.num_val

    def check(self, format_: str, score: float) -> None:
        """Raise a `NasError` where an export does not agree with the model in memory or the recorded score."""
        if self.logit_difference > LOGIT_TOLERANCE[format_] * max(1.0, self.logit_scale):
            raise NasError(
                f"the export does not compute what the trained network does: logits differ by up to "
                f"{self.logit_difference:.3g}, expected at most {LOGIT_TOLERANCE[format_]:g}; nothing was written"
            )
        if not self.num_correct_least <= round(score * self.num_val) <= self.num_correct_most:
            raise NasError(
                f"the validation accuracy measured again is {self.score:.4f}, recorded was {score:.4f}; "
                "nothing was written"
            )


def score_tolerance(precision: str, device: str) -> float:
    """How near logits must be, relative to the largest, for another device or format to swap them."""
    return max(SCORE_TOLERANCE[precision], 0.0 if device == "cpu" else GPU_TOLERANCE)


def verify(
    path: Path, model: nn.Module, config: StudyConfig, *, device: str, input_size: tuple[int, int, int]
) -> Verification:
    """Compare an export with the model in memory and measure its score, in a process of its own.

    Args:
        path: a folder for timm or an ONNX file.
        config: on which data and how the network was validated.
        device: where it was trained.
        input_size: (C, H, W) of one image.
    """
    images = torch.randn(PROBES, *input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model.eval()(images)
    if not logits.isfinite().all():
        raise NasError("the trained network gives logits that are not finite; nothing was written")
    job_path, probe = (path.with_name(f"{path.name}.{name}") for name in ("job", "probe"))
    save_file({"images": images, "logits": logits.clone()}, probe)
    job = Job(
        probe=str(probe),
        data=config.data,
        training=config.training,
        score_tolerance=score_tolerance(config.training.precision, device),
        threads=torch.get_num_threads(),
    )
    job_path.write_text(job.model_dump_json())
    command = [sys.executable, "-m", __name__, str(path), "--job", str(job_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command line
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise (UserError if done.returncode == UserError.exit_code else NasError)(f"verification of the export: {said}")
    return Verification.model_validate_json(done.stdout)


def load_network(path: Path, threads: int = 1) -> Network:
    """An exported folder or ONNX file as a function from images to logits; a `UserError` where it is not whole."""
    if path.is_dir():
        return load_folder(path)
    return OnnxModel(path, threads)


def measure(path: Path, job: Job) -> Verification:
    """What an export computes on the probes and on the validation images."""
    torch.set_num_threads(job.threads)
    network = load_network(path, job.threads)
    probe = load_file(job.probe)
    images, expected = probe["images"], probe["logits"]
    sizes = (PROBES,) if path.is_dir() else (PROBES, 1)  # the batch of an ONNX file is dynamic
    data = open_data(job.data)
    with torch.inference_mode():
        differences = [(network(images[:size]) - expected[:size]).abs().max().item() for size in sizes]
        counts = _count_correct(network, data, job)
    return Verification(
        logit_difference=max(differences),
        logit_scale=expected.abs().max().item(),
        num_val=data.summary.num_val,
        **counts,
    )


def _count_correct(network: Network, data: DataSource, job: Job) -> dict[str, int]:
    """Correct validation images, and how few or many they are when near ties fall either way."""
    layout = torch.channels_last if job.training.channels_last else torch.contiguous_format
    parts = [
        (network(images.contiguous(memory_format=layout)), labels)
        for images, labels in data.val_batches(batch_size=job.training.batch_size, on=torch.device("cpu"))
    ]
    logits, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    own = logits.gather(1, labels[:, None])[:, 0]
    margin = own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    tolerance = job.score_tolerance * logits.abs().max()
    return {
        "num_correct": int((logits.argmax(1) == labels).sum()),
        "num_correct_least": int((margin > tolerance).sum()),
        "num_correct_most": int((margin >= -tolerance).sum()),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Check an export; with a job, measure it and print the `Verification` as JSON."""
    parser = argparse.ArgumentParser(prog="python -m nas.export.verify", description=__doc__)
    parser.add_argument("path", type=Path, help="a folder for timm or an ONNX file")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    given: Any = parser.parse_args(arguments)
    try:
        if given.job is None:
            load_network(given.path)
            said = f"{given.path}: whole"
        else:
            said = measure(given.path, Job.model_validate_json(given.job.read_bytes())).model_dump_json()
    except NasError as error:
        print(" ".join(str(error).split()), file=sys.stderr)  # noqa: T201 - this module is a command
        return error.exit_code
    print(said)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
