"""What a study file says about cheap scores. Needs no torch."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictInt, model_validator

from nas.documents import Document

MIN_ARCHITECTURES = 8
MIN_SEEDS = 2
"""Fewer would say nothing."""

Count = Annotated[StrictInt, Field(ge=1)]
Measure = Literal["loss", "accuracy"]


class EstimateConfig(Document):
    """Which candidates are worth a full training."""

    by: Literal["full", "auto", "brief", "shared", "predictor"] = "full"
    """`full` trains every candidate; `brief` (few epochs), `shared` (shared weights) and `predictor` (fitted to the
    full trainings of the study's calibration) score `candidates` of them cheaply, of which the best are trained in
    full; `auto` does what the calibration found."""
    candidates: Count = 500
    """Candidates that a cheap score ranks."""
    epochs: Count | None = None
    """Of a brief training (unset: two fifths of the full ones), or of each shared network (unset: all of them).
    Not of a predictor, which trains nothing of its own."""
    networks: Count = 3
    """shared: networks of other seeds whose mean score counts."""
    measure: Measure = "accuracy"
    """shared: validation `accuracy` or `loss` on the shared weights."""
    norm_images: Count = 256
    """shared: training images from which the batch-norm statistics of each candidate are taken."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"by": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _predictor_trains_nothing(self) -> Self:
        if self.by == "predictor" and self.epochs is not None:
            raise ValueError("epochs: a predictor trains nothing of its own; leave it out")
        return self

    @property
    def cheap(self) -> bool:
        """Whether candidates are scored before some are trained."""
        return self.by in ("brief", "shared", "predictor")

    @property
    def calibrated(self) -> bool:
        """Whether a calibration comes first."""
        return self.by in ("auto", "predictor")


class CalibrationConfig(Document):
    """How cheap scores are held against full training."""

    architectures: Annotated[StrictInt, Field(ge=MIN_ARCHITECTURES)] = 24
    """Architectures that are trained in full: the landmarks and a space-filling sample."""
    seeds: Annotated[StrictInt, Field(ge=MIN_SEEDS)] = 3
    """Full trainings of each."""
    brief_epochs: tuple[Count, ...] | None = None
    """Epochs of brief trainings, each with a schedule of its own; unset: a fifth and two fifths of the full ones."""
    fractions: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5,)
    """Shares of the training images for trainings of full length."""
    scales: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Shares of the image's side for trainings of full length on smaller images."""
    inherit_epochs: tuple[Count, ...] = ()
    """Epochs of brief trainings that start from the weights of the trained plain network."""
    shared_epochs: tuple[Count, ...] | None = None
    """Lengths of shared networks; unset: half, once and twice the full length."""
    networks: Count = 3
    """Shared networks of each length."""
    norm_images: Count = 256
    """Training images from which the batch-norm statistics of each architecture are taken."""

    @property
    def truth_alone(self) -> "CalibrationConfig":
        """The full trainings without anything to hold against them."""
        cheap = ("brief_epochs", "fractions", "scales", "inherit_epochs", "shared_epochs")
        return self.model_copy(update=dict.fromkeys(cheap, ()))

    def with_lengths(self, full_epochs: int) -> "CalibrationConfig":
        """The same with every length filled in for full trainings of so many epochs."""
        brief = sorted({max(1, round(full_epochs * share)) for share in (0.2, 0.4)} - {full_epochs})
        shared = sorted({max(1, round(full_epochs * share)) for share in (0.5, 1, 2)})
        return self.model_copy(
            update={
                "brief_epochs": tuple(brief) if self.brief_epochs is None else self.brief_epochs,
                "shared_epochs": tuple(shared) if self.shared_epochs is None else self.shared_epochs,
            }
        )
