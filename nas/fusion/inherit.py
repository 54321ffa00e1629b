"""Weights of a plain timm ResNet in any candidate: everything but the fusion is taken over, and nothing is guessed.

With λ = 0, γ = 0 or exactly open gates the candidate then computes what the plain network computed.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from timm.models import create_model, load_state_dict
from torch import Tensor

from nas.backbones import TIMM
from nas.errors import UserError
from nas.fusion.models import FusionResNet

CLASSIFIER = ("fc.weight", "fc.bias")


def load_plain(source: str | Path, *, in_chans: int = 3) -> dict[str, Tensor]:
    """The state dict of a plain network.

    Args:
        source: a file (safetensors, or what ``torch.save`` wrote of tensors alone), or ``timm:NAME.TAG`` for
            pretrained weights of timm, which are downloaded where they are not cached.
        in_chans: timm adapts the first convolution of its own weights to this number.

    Raises:
        UserError: there is no such file or model, it is damaged, or it holds no state dict.
    """
    if str(source).startswith(TIMM):
        return _from_timm(str(source), in_chans)
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        state = load_state_dict(path, device="cpu", weights_only=True)
    except (AttributeError, EOFError, KeyError, OSError, RuntimeError, UnpicklingError, SafetensorError) as error:
        raise UserError(f"{path}: expected a checkpoint of tensors, {_first_line(error)}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: expected a state dict, a mapping of names to tensors")
    return dict(state)


def _from_timm(source: str, in_chans: int) -> dict[str, Tensor]:
    try:
        model = create_model(source.removeprefix(TIMM), pretrained=True, in_chans=in_chans)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{source}: no such weights, {_first_line(error)}") from None
    return dict(model.state_dict())


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return f"but: {text.splitlines()[0]}"


def inherit(model: FusionResNet, state: Mapping[str, Tensor], source: str = "weights") -> None:
    """Copy the weights of the plain network into ``model``; its λ, γ and attention stay as they are.

    A classifier of another number of classes is left out, and the model keeps its own. Everything else must
    match: a key that is missing, foreign or of another shape is a `UserError` that begins with ``source``, and
    then nothing has been copied.
    """
    own = model.state_dict()
    taken = set(own) - model.fusion_keys()
    dropped = {key for key in CLASSIFIER if key in state and _other_classes(state[key], own.get(key))}
    _compare_keys(own, taken, state, dropped, source)
    with torch.no_grad():
        for key in taken - dropped:
            if key in state:
                own[key].copy_(state[key])


def _other_classes(given: Tensor, own: Tensor | None) -> bool:
    """Whether a tensor of a classifier differs from the model's only in the number of classes."""
    return own is None or (given.shape[0] != own.shape[0] and given.shape[1:] == own.shape[1:])


def _compare_keys(
    own: Mapping[str, Tensor], taken: set[str], state: Mapping[str, Tensor], dropped: set[str], source: str
) -> None:
    if "bn1.running_mean" in state and "bn1.running_mean" not in own:
        raise UserError(f"{source}: these weights are of batch norm, the model has norm: group")
    missing = [k for k in own if k in taken and k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        raise UserError(f"{source}: lacks {_named(missing)} of the plain network")
    foreign = [k for k in state if k not in taken and k not in dropped]
    if foreign:
        raise UserError(f"{source}: holds {_named(foreign)}, which the plain network does not have")
    for key in taken - dropped:
        if key in state and state[key].shape != own[key].shape:
            given, expected = tuple(state[key].shape), tuple(own[key].shape)
            raise UserError(f"{source}: {key} has the shape {given}, the model needs {expected}")


def _named(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more keys"
