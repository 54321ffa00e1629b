"""One run of a calibration: what is trained, how long, on how much."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nas.architecture import NormName

Result = Mapping[str, Any]
"""What one run gave, as JSON can hold it."""
RunKind = Literal["full", "brief", "fraction", "small", "inherit", "shared"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a calibration."""

    kind: RunKind
    epochs: int
    seed: int
    digest: str = ""
    """Of the architecture; empty for a shared network, which scores them all."""
    norm: NormName = "batch"
    """Of a shared network."""
    fraction: float = 1.0
    """Share of the training images."""
    scale: float = 1.0
    """Share of the side of the images."""

    @property
    def key(self) -> str:
        """Name of the run in a store."""
        what = self.norm if self.kind == "shared" else self.digest
        fraction = "" if self.fraction == 1 else f"-f{self.fraction:g}"
        scale = "" if self.scale == 1 else f"-x{self.scale:g}"
        return f"{self.kind}-{what}-e{self.epochs}-s{self.seed}{fraction}{scale}"

    @property
    def label(self) -> str:
        """The estimator and budget that it belongs to."""
        epochs = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        budget = {"fraction": f"fraction {self.fraction:g}", "small": f"small {self.scale:g}"}
        return f"{budget.get(self.kind, self.kind)}, {epochs}"

    @property
    def effort(self) -> float:
        """Epochs on all training images at full size."""
        return self.epochs * self.fraction * self.scale**2
