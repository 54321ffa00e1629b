"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 × 28 pixels, from the files as they are published.

H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms, 2017.
"""

from pathlib import Path

import numpy as np

from nas.errors import DataError
from nas.training.config import DataConfig
from nas.training.data.arrays import ArrayData, ArrayPart
from nas.training.data.idx import read_idx
from nas.training.data.official import open_official

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts it."""
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
NUM_TEST = 10_000


def open_fashion(config: DataConfig) -> ArrayData:
    """The official test images are the test part; the validation part is cut from the others."""
    place = config.source.partition(":")[2]
    folder = _folder(Path(place).expanduser() if place else DEBIAN)
    return open_official(
        config, _read(folder, "train"), lambda: _read(folder, "t10k"), class_names=CLASSES, num_test=NUM_TEST
    )


def _folder(root: Path) -> Path:
    """The folder of the files, below ``root`` as torchvision lays them, or ``root`` itself."""
    for folder in (root / "FashionMNIST" / "raw", root):
        if any((folder / f"train-images-idx3-ubyte{end}").is_file() for end in ("", ".gz")):
            return folder
    raise DataError(
        f"{root}: no Fashion-MNIST there (train-images-idx3-ubyte.gz …); get it with apt-get install "
        "dataset-fashion-mnist, or name the folder of torchvision's download: fashion-mnist:PATH"
    )


def _read(folder: Path, stem: str) -> ArrayPart:
    """Images (N, 1, 28, 28) of bytes and their labels."""
    images = read_idx(_file(folder, f"{stem}-images-idx3-ubyte"), 3)
    labels = read_idx(_file(folder, f"{stem}-labels-idx1-ubyte"), 1)
    if len(images) != len(labels):
        raise DataError(f"{folder}: {len(images)} images but {len(labels)} labels in {stem}-…")
    return ArrayPart(images[:, None], labels.astype(np.int64))


def _file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"
