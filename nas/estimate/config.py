"""What a study file says about cheap scores. Needs no torch."""

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from nas.documents import Document
from nas.estimate.ranking import MIN_ARCHITECTURES, MIN_SEEDS

Count = Annotated[StrictInt, Field(ge=1)]
Measure = Literal["loss", "accuracy"]


class SharedConfig(Document):
    """How architectures are scored on shared weights."""

    epochs: Count | None = None
    """Passes of each shared network over the training images; unset: as many as one full training."""
    networks: Count = 3
    """Shared networks of other seeds whose mean score counts."""
    measure: Measure = "loss"
    """Validation `loss` or `accuracy` on the shared weights; small validation parts give many equal accuracies."""
    norm_images: Count = 256
    """Training images from which the batch-norm statistics of each architecture are taken."""
    finalists: Count = 8
    """Best architectures by shared score that are trained in full; the landmarks are trained beside them."""


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
    """Lengths of shared networks; unset: once and twice the full length."""
    networks: Count = 3
    """Shared networks of each length."""
    norm_images: Count = 256
    """Training images from which the batch-norm statistics of each architecture are taken."""

    def with_lengths(self, full_epochs: int) -> "CalibrationConfig":
        """The same with every length filled in for full trainings of so many epochs."""
        brief = sorted({max(1, round(full_epochs * share)) for share in (0.2, 0.4)} - {full_epochs})
        return self.model_copy(
            update={
                "brief_epochs": tuple(brief) if self.brief_epochs is None else self.brief_epochs,
                "shared_epochs": (full_epochs, 2 * full_epochs) if self.shared_epochs is None else self.shared_epochs,
            }
        )
