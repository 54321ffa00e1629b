"""A device of its own kind, as Apple's GPUs are: without float64, and apart from the CPU's memory.

Its tensors hold tensors of the CPU, where everything is computed. What asks for float64 on it is refused with the words
of torch's MPS backend; so are an operation whose operands lie on different devices, and what that backend lacked in a
version of torch that is allowed. It is registered for the whole
process and for good: use it in one that is started for it (`tests.warm.run`).
"""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "far"
MIXES = ("aten::copy_", "aten::index", "aten::index_put_", "aten::_index_put_impl_")
"""Operations that take operands of both devices."""


class Far(Tensor):
    """A tensor of the far device."""

    near: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: Tensor) -> "Far":
        if near.dtype == torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        with torch.inference_mode(False):
            far: Far = torch.Tensor._make_wrapper_subclass(
                cls,
                near.shape,
                strides=near.stride(),
                storage_offset=near.storage_offset(),
                dtype=near.dtype,
                device=torch.device(NAME, 0),
                requires_grad=near.requires_grad,
            )
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, *args, **(kwargs or {}))

    def tolist(self) -> Any:
        return self.near.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.near.__reduce_ex__(protocol)


def _near(value: Any) -> Any:
    return value.near if isinstance(value, Far) else value


def _compute(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Compute on the CPU what is asked for; the result lies where torch would put it."""
    name = func.overloadpacket._qualified_op_name
    if name == "aten::grid_sampler_2d" and args[3] == 1:
        raise RuntimeError("MPS: Unsupported Border padding mode")
    given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    far = {id(value.near): value for value in given if isinstance(value, Far)}
    if name == "aten::_has_compatible_shallow_copy_type":
        return False
    if name == "aten::copy_":
        _near(args[0]).copy_(_near(args[1]))
        return args[0]
    if far and name not in MIXES and any(value.ndim for value in given if not isinstance(value, Far)):
        raise RuntimeError(f"Expected all tensors to be on the same device: {name}")
    device = kwargs.get("device")
    if device is not None:
        kwargs["device"] = torch.device("cpu")
    result = func(*tree_map(_near, args), **tree_map(_near, kwargs))
    if not (far if device is None else torch.device(device).type == NAME):
        return result
    return tree_map(lambda v: far.get(id(v), v) if id(v) in far or not isinstance(v, Tensor) else Far(v), result)


class FarAccelerator(Accelerator):
    """What lightning needs to know."""

    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def parse_devices(devices: Any) -> list[int]:
        return [0]

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device(NAME, 0)]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME


class FarTrainer(L.Trainer):
    """A Trainer there: lightning chooses the CPU for what it does not know."""

    def __init__(self, **given: Any) -> None:
        strategy = SingleDeviceStrategy(device=torch.device(NAME, 0))
        super().__init__(**given | {"accelerator": FarAccelerator(), "strategy": strategy})


def tensor(*given: Any, device: Any = None, **more: Any) -> Tensor:
    """`torch.tensor`, which does not reach a device that is written in Python."""
    made = torch_tensor(*given, **more)
    return made if device is None else made.to(device)


torch_tensor = torch.tensor


def register() -> torch.device:
    """Make this the only device of the process, wherever the package asks for one."""
    from nas.estimate import shared_training  # noqa: F401  # so that the modules below are all that ask
    from nas.training import fit, pace, run, shared_run
    from nas.training import testing as looks

    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("_", "IMPL")
    library.fallback(_compute, "PrivateUse1")
    device = torch.device(NAME, 0)
    for module in (pace, run, shared_run, looks):
        module.resolve_device = lambda _: device
    fit.L.Trainer = FarTrainer
    torch.tensor = tensor
    globals()["_library"] = library  # what it registers goes with it
    return device
