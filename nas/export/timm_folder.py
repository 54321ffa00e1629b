"""A folder that ``timm.create_model("local-dir:PATH", pretrained=True)`` loads once `nas` is imported.

``config.json`` is timm's, with two keys of ours: ``fusion_nas`` is the content of the architecture file with its
provenance, ``weights_sha256`` belongs to ``model.safetensors``. ``README.md`` is the model card.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import timm
from safetensors import SafetensorError
from safetensors.torch import load
from timm.models import save_for_hf
from torch import Tensor

from nas.architecture import Architecture
from nas.documents import read_document
from nas.errors import UserError
from nas.export.card import model_card
from nas.fusion.models import FusionResNet, model_args

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
KEY, WEIGHTS_KEY = "fusion_nas", "weights_sha256"


def write_folder(
    folder: Path,
    model: FusionResNet,
    architecture: Architecture,
    *,
    preprocessing: Mapping[str, Any],
    label_names: Sequence[str],
    provenance: Mapping[str, Any],
) -> None:
    """Write config, weights and model card into a new folder."""
    first_conv, classifier = (model.pretrained_cfg[key] for key in ("first_conv", "classifier"))
    # What a registered backbone says of its own weights (licence, papers, sizes) is not true of these.
    model.pretrained_cfg = {
        "architecture": f"fusion_{architecture.backbone.name}",
        "num_classes": architecture.num_classes,
        "first_conv": first_conv,
        "classifier": classifier,
        **preprocessing,
    }
    config = {
        "label_names": list(label_names),
        KEY: {**architecture.canonical().to_dict(), "digest": architecture.digest, "provenance": dict(provenance)},
    }
    save_for_hf(
        model,
        str(folder),
        config,
        model_args=model_args(architecture),
        safe_serialization=True,
        data_config=preprocessing,
    )
    path = folder / CONFIG
    written = json.loads(path.read_text())
    written[WEIGHTS_KEY] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    path.write_text(json.dumps(written, indent=2) + "\n")
    (folder / CARD).write_text(model_card(architecture, provenance, preprocessing))


def load_folder(folder: Path) -> FusionResNet:
    """The network of a folder as timm loads it, in eval mode, after checks that timm does not make.

    Raises:
        UserError: a file is missing, truncated or changed, of a newer schema, or of another architecture.
    """
    architecture, config = read_config(folder)
    weights = _read_weights(folder, str(config.get(WEIGHTS_KEY)))
    model = cast("FusionResNet", timm.create_model(f"local-dir:{folder}", pretrained=True).eval())
    state = model.state_dict()
    different = sorted(state.keys() ^ weights.keys()) or [k for k, v in state.items() if not v.equal(weights[k])]
    if different:
        raise UserError(f"{folder / WEIGHTS}: {different[0]} does not belong to architecture {architecture.digest}")
    return model


def read_config(folder: Path) -> tuple[Architecture, dict[str, Any]]:
    """The architecture of a folder and the content of its ``config.json``."""
    path = folder / CONFIG
    config = read_document(path)
    if not isinstance(config, dict) or KEY not in config:
        raise UserError(f"{path}: expected the key {KEY}; this folder was not written by fusion-nas")
    architecture = Architecture.from_dict(config[KEY], f"{path}: {KEY}")
    given = (config.get("architecture"), {k: (config.get("model_args") or {}).get(k) for k in model_args(architecture)})
    if given != (f"fusion_{architecture.backbone.name}", model_args(architecture)):
        raise UserError(f"{path}: model_args: expected those of architecture {architecture.digest}, as {KEY} has it")
    return architecture, config


def _read_weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        weights: dict[str, Tensor] = load(data)
    except SafetensorError as error:
        raise UserError(f"{path}: truncated or damaged: {error}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UserError(f"{path}: expected the SHA-256 {sha256} of {CONFIG}, got {found}: the file was changed")
    return weights


def check_replaceable(folder: Path) -> None:
    """Raise a `UserError` where writing the folder would overwrite anything but an export of ours."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder to write, this is a file")
    found = {path.name for path in folder.iterdir()}
    foreign = sorted(found - {CONFIG, WEIGHTS, CARD})
    if foreign:
        raise UserError(f"{folder}: holds {foreign[0]}, which is not of an export; choose a new folder")
    if found:
        try:
            read_config(folder)
        except UserError as error:
            raise UserError(f"{error}; choose a new folder, or remove this one") from None
