"""What a study file says about the augmentation of training images. Needs no torch."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nas.documents import Document

RecipeName = Literal["digits", "cifar", "imagenet"]
Crop = Literal["pad", "resized", "none"]
Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]
RANDAUGMENT = re.compile(r"rand-m(10|\d)-n([1-9])")
"""Magnitude and number of changes, as timm writes them."""


class AugmentConfig(Document):
    """Augmentation by name, beside what the recipe says; `augment: true` is the recipe, `augment: false` is none."""

    crop: Crop | None = None
    """`pad` shifts by up to an eighth of the side, `resized` cuts a rectangle of 35 to 100 % of the area and resizes
    it, `none`; unset: as the recipe."""
    flip: Probability | None = None
    """Probability of a left-right flip; unset: as the recipe."""
    color: Probability | None = None
    """Largest change of brightness, contrast and, in colour, saturation, as a share; unset: as the recipe, or 0 beside
    `randaugment`."""
    randaugment: str | None = None
    """`rand-m9-n2`: two changes of each image, drawn from timm's 15, of strength 9 out of 10, each made with
    probability 0.5. Costs more than everything else together; unset: none."""
    erase: Probability | None = None
    """Probability that a random rectangle of 2 to 33 % of the image is erased; unset: 0."""
    mixup: Strength | None = None
    """α of the beta distribution by which images and labels are mixed with another's; unset: 0, which is never."""
    cutmix: Strength | None = None
    """The same for rectangles that are put into another image; with `mixup`, a coin tosses for each image; unset: 0."""

    @classmethod
    def none(cls) -> Self:
        """Every augmentation switched off."""
        return cls(crop="none", flip=0, color=0, erase=0, mixup=0, cutmix=0)

    @field_validator("randaugment")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        if text is not None and not RANDAUGMENT.fullmatch(text):
            raise ValueError(
                f"expected rand-mM-nN with M from 0 to 10 and N from 1 to 9, as in rand-m9-n2, got {text!r}"
            )
        return text

    @model_validator(mode="before")
    @classmethod
    def _switch(cls, content: Any) -> Any:
        if isinstance(content, bool):
            return {} if content else cls.none().model_dump()
        if not isinstance(content, Mapping | cls):
            raise ValueError(f"expected true, false or a mapping of keys, got {content!r}")
        return content
