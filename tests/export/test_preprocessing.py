"""timm's own evaluation transform, as an export describes it, gives what the study validated on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from nas.export.preprocessing import preprocessing_of
from nas.training.config import DataConfig
from nas.training.data import open_data
from nas.training.data.digits import digits_of


def test_digits() -> None:
    config = DataConfig(source="digits")
    data = open_data(config)
    transform = create_transform(**preprocessing_of(data))
    expected = torch.cat([images for images, _ in data.val_batches(batch_size=64, on=torch.device("cpu"))])
    found = torch.stack([transform(Image.fromarray(image[0])) for image in digits_of(config)["val"].images])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("size", [24, 128])
def test_image_files(tmp_path: Path, in_chans: int, size: int) -> None:
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for label in ("cat", "dog"):
            (tmp_path / part / label).mkdir(parents=True)
            pixels = random.integers(0, 256, (size + 10, size + 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / label / "0.png")
    config = DataConfig(source=f"folder:{tmp_path}", image_size=size, in_chans=in_chans, val_is="val")  # type: ignore[arg-type]
    data = open_data(config)
    preprocessing = preprocessing_of(data)
    assert preprocessing["input_size"] == [in_chans, size, size]
    transform = create_transform(**preprocessing)
    mode = "L" if in_chans == 1 else "RGB"
    files = sorted((tmp_path / "val").rglob("*.png"))
    found = torch.stack([transform(Image.open(file).convert(mode)) for file in files])
    expected = torch.cat([images for images, _ in data.val_batches(batch_size=2, on=torch.device("cpu"))])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
