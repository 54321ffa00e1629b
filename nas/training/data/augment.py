"""How the training images of a study are augmented: the recipe, and what the study file says beside it. No torch."""

from dataclasses import dataclass, replace

from nas.training.augment_config import RANDAUGMENT, Crop, RecipeName
from nas.training.config import EMNIST_SPLITS, STREAMS, DataConfig

CROP_SCALE = (0.35, 1.0)
"""Area of a resized crop: gentler than torchvision's 8 %, because candidates train briefly."""
CROP_RATIO = (3 / 4, 4 / 3)
"""Width over height of a resized crop."""
SMALLEST_SHIFTED = 16
"""Side from which recipes shift: at 8 pixels one pixel is a stroke, and brief training gets worse."""
SHIFT = 8
"""A shift goes up to the side divided by it."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to training images."""

    crop: Crop = "none"
    flip: float = 0.0
    color: float = 0.0
    randaugment: tuple[int, int] | None = None
    """Magnitude, and how many changes."""
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    smallest_shifted: int = SMALLEST_SHIFTED

    def shift(self, side: int) -> int:
        """Pixels by which images of a side are shifted at most."""
        return side // SHIFT if self.crop == "pad" and side >= self.smallest_shifted else 0


RECIPES: dict[RecipeName, Augmentation] = {
    "digits": Augmentation(crop="pad"),
    "cifar": Augmentation(crop="pad", flip=0.5),
    "imagenet": Augmentation(crop="resized", flip=0.5, color=0.4),
}
DIGITS = ("digits", "noisy-digits", "cluttered-digits", "cued-digits")
RECIPE_OF: dict[str, RecipeName] = {
    **dict.fromkeys(DIGITS, "digits"),
    "torch/mnist": "digits",
    "torch/kmnist": "digits",
    "torch/qmnist": "digits",
    "torch/svhn": "digits",
    **dict.fromkeys((f"torch/emnist/{split}" for split in EMNIST_SPLITS), "digits"),
    "fashion-mnist": "cifar",
    "torch/fashion_mnist": "cifar",
    "torch/cifar10": "cifar",
    "torch/cifar100": "cifar",
    "torch/stl10": "cifar",
}
"""Where a source is not named here: `imagenet`."""


def augmentation_of(config: DataConfig) -> Augmentation:
    """The recipe with the changes of the study file."""
    recipe = RECIPES[config.recipe or _usual_recipe(config)]
    changes = config.augment.model_dump(exclude_none=True)
    if written := RANDAUGMENT.fullmatch(changes.pop("randaugment", "")):
        magnitude, num_changes = map(int, written.groups())
        changes = {"color": 0.0, **changes, "randaugment": (magnitude, num_changes)}  # it has colours of its own
    if config.augment.crop == "pad":  # asked for by name: at every size that has a pixel to give
        changes["smallest_shifted"] = SHIFT
    return replace(recipe, **changes)


def _usual_recipe(config: DataConfig) -> RecipeName:
    """What suits a source; what an older version began goes on as it was augmented then."""
    kind = config.kind.lower()
    if config.reading == 1:
        shifted = kind in DIGITS or kind.partition("/")[0] in STREAMS
        return "digits" if shifted else "imagenet"
    return RECIPE_OF.get(kind, "imagenet")
