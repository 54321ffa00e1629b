"""fusion-nas: finds where and how attention should be fused into a timm ResNet.

Importing this package registers the ``fusion_*`` models with timm, as soon as timm itself is imported;
until then nothing heavy is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from nas.architecture import Architecture, Backbone, StageFusion
    from nas.errors import NasError, UserError
    from nas.fusion.models import build_model
    from nas.measurement import EpochRecord, Measurement, StabilityEvent
    from nas.space.space import SearchSpace
    from nas.study.records import TrialRecord
    from nas.study.store.reader import Study, open_study
    from nas.training.run import train

__version__ = "0.1.0"

_HOMES = {
    "Architecture": "nas.architecture",
    "Backbone": "nas.architecture",
    "EpochRecord": "nas.measurement",
    "Measurement": "nas.measurement",
    "NasError": "nas.errors",
    "SearchSpace": "nas.space.space",
    "StabilityEvent": "nas.measurement",
    "StageFusion": "nas.architecture",
    "Study": "nas.study.store.reader",
    "TrialRecord": "nas.study.records",
    "UserError": "nas.errors",
    "build_model": "nas.fusion.models",
    "open_study": "nas.study.store.reader",
    "train": "nas.training.run",
}

__all__ = [
    "Architecture",
    "Backbone",
    "EpochRecord",
    "Measurement",
    "NasError",
    "SearchSpace",
    "StabilityEvent",
    "StageFusion",
    "Study",
    "TrialRecord",
    "UserError",
    "build_model",
    "open_study",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


@wrapt.when_imported("timm.models")
def _register_models(_module: object) -> None:
    import_module("nas.fusion.models")
