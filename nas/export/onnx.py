"""ONNX files with a dynamic batch. Shapes: B images of C channels, H × W pixels, K classes.

The metadata ``fusion_nas`` of the file is the content of the architecture file with its provenance.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.architecture import Architecture
from nas.errors import UserError
from nas.export.timm_folder import KEY
from nas.fusion.models import FusionResNet

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUT, OUTPUT = "images", "logits"
EXAMPLE_BATCH = 2
"""torch.export takes a batch of 1 for a constant."""


def check_installed() -> None:
    """Raise a `UserError` that says how to install what is missing."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"--format onnx needs {', '.join(missing)}: pip install 'fusion-nas[onnx]'")


def write_onnx(
    path: Path,
    model: FusionResNet,
    architecture: Architecture,
    *,
    preprocessing: Mapping[str, Any],
    label_names: Sequence[str],
    provenance: Mapping[str, Any],
) -> None:
    """Write one file that takes ``images`` (B, C, H, W), standardised, and gives ``logits`` (B, K)."""
    check_installed()
    import onnx

    program = torch.onnx.export(
        model.eval(),
        (torch.zeros(EXAMPLE_BATCH, *preprocessing["input_size"]),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    content = {**architecture.canonical().to_dict(), "digest": architecture.digest, "provenance": dict(provenance)}
    metadata = {KEY: content, "label_names": list(label_names), "preprocessing": dict(preprocessing)}
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, path)


class OnnxModel:
    """A file of ours in onnxruntime, on the CPU.

    Raises:
        UserError: the file is missing, truncated, of a newer schema, or not of ours.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        check_installed()
        import onnxruntime

        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        state = onnxruntime.capi.onnxruntime_pybind11_state
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except (state.InvalidProtobuf, state.InvalidGraph, state.Fail) as error:
            raise UserError(f"{path}: truncated or damaged: {' '.join(str(error).split())}") from None
        self.metadata = self._session.get_modelmeta().custom_metadata_map
        if KEY not in self.metadata:
            raise UserError(f"{path}: expected the metadata {KEY}; this file was not written by fusion-nas")
        self.architecture = Architecture.from_dict(json.loads(self.metadata[KEY]), f"{path}: {KEY}")

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        (logits,) = self._session.run([OUTPUT], {INPUT: images.contiguous().numpy()})
        return torch.from_numpy(logits)
