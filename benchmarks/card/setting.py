"""What is measured: networks on made-up images, as large as a card can use, or as small as a test needs."""

from dataclasses import dataclass

import numpy as np
import torch

from nas.architecture import Architecture, Backbone, StemName
from nas.training.config import DataConfig, Precision, TrainingConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.summary import Part

CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One network and its images."""

    backbone: str
    stem: StemName
    side: int
    batch_size: int
    num_train: int

    @property
    def architecture(self) -> Architecture:
        """The plain network."""
        return Architecture.plain(Backbone(name=self.backbone, stem=self.stem), num_classes=CLASSES)

    def data(self) -> ArrayData:
        """A noisy image of each class many times over: easy, so that the guard has nothing to say. Bytes, in memory."""
        random, shape = np.random.default_rng(0), (3, self.side, self.side)
        patterns = random.integers(128, size=(CLASSES, *shape), dtype=np.uint8)

        def read(part: Part) -> ArrayPart:
            count = self.num_train if part == "train" else max(2 * CLASSES, self.num_train // 4)
            labels = np.arange(count) % CLASSES
            noise = random.integers(128, size=(count, *shape), dtype=np.uint8)
            return ArrayPart(patterns[labels] + noise, labels)

        config = DataConfig(source="digits", in_chans=3, image_size=self.side, augment={"flip": 0.5})
        return ArrayData(config, read, class_names=tuple("0123456789"), num_test=0)

    def training(
        self, device: str, *, epochs: int, precision: Precision | None = None, channels_last: bool = True
    ) -> TrainingConfig:
        """How it is trained; in bfloat16 on a GPU where nothing else is asked for."""
        return TrainingConfig(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=0.02,
            precision=precision or ("32-true" if device == "cpu" else "bf16-mixed"),
            channels_last=channels_last,
            device=device,
            threads=1,
        )


CARD = {
    "resnet_micro 24 px": Setting(backbone="resnet_micro", stem="small", side=24, batch_size=64, num_train=3072),
    "resnet18 32 px": Setting(backbone="resnet18", stem="small", side=32, batch_size=128, num_train=6144),
    "resnet50 224 px": Setting(backbone="resnet50", stem="imagenet", side=224, batch_size=64, num_train=1024),
}
TINY = {name: Setting(backbone="resnet_micro", stem="small", side=8, batch_size=16, num_train=32) for name in CARD}


def settings(device: str) -> dict[str, Setting]:
    """By name: for a GPU, or tiny ones that show on a CPU that everything runs."""
    return TINY if device == "cpu" else CARD


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize(device)
