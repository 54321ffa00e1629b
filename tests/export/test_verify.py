"""What agrees is let through, what does not is refused with both values."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nas.errors import NasError
from nas.export.timm_folder import write_folder
from nas.export.verify import Job, Verification, measure, score_tolerance
from nas.training.config import DataConfig, TrainingConfig
from nas.training.data import open_data

from .networks import EXPORTED, probes, random_networks

GOOD = Verification(
    logit_difference=0.0,
    logit_scale=2.0,
    num_val=100,
    num_correct=90,
    num_correct_least=89,
    num_correct_most=90,
)


def test_judgement() -> None:
    GOOD.check("timm", 0.9)
    GOOD.check("timm", 0.89)
    with pytest.raises(NasError, match=r"measured again is 0.9000, recorded was 0.9100; nothing was written"):
        GOOD.check("timm", 0.91)
    near = GOOD.model_copy(update={"logit_difference": 1.5e-4})
    near.check("onnx", 0.9)  # the largest logit is 2
    with pytest.raises(NasError, match=r"logits differ by up to 0.00015, expected at most 0"):
        near.check("timm", 0.9)
    with pytest.raises(NasError, match=r"expected at most 0.0001"):
        near.model_copy(update={"logit_difference": 3e-4}).check("onnx", 0.9)


def test_tolerance_grows_with_rounding() -> None:
    assert (
        score_tolerance("32-true", "cpu") < score_tolerance("32-true", "cuda:0") <= score_tolerance("16-mixed", "cpu")
    )
    assert score_tolerance("bf16-mixed", "cuda") == 3e-2


def test_measure(tmp_path: Path) -> None:
    [(architecture, model)] = random_networks(1)
    write_folder(tmp_path / "a", model, architecture, **EXPORTED)
    shift = torch.zeros(10).index_fill(0, torch.tensor(4), 0.25)
    with torch.inference_mode():
        save_file({"images": probes(), "logits": model(probes()) + shift}, tmp_path / "probe")
        config = DataConfig(source="digits")
        data = open_data(config)
        batches = [(model(x), y) for x, y in data.val_batches(batch_size=64, on=torch.device("cpu"))]
    logits, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    training = TrainingConfig(channels_last=False)
    job = Job(
        probe=str(tmp_path / "probe"),
        data=config,
        training=training,
        score_tolerance=0.0,
        threads=torch.get_num_threads(),
    )
    found = measure(tmp_path / "a", job)
    assert found.logit_difference == pytest.approx(0.25, abs=1e-6)
    correct = int((logits.argmax(1) == labels).sum())
    assert (found.num_correct_least, found.num_correct, found.num_correct_most) == (correct,) * 3
    assert found.num_val == len(labels)

    wide = measure(tmp_path / "a", job.model_copy(update={"score_tolerance": 0.3}))
    limit = 0.3 * logits.abs().max()
    best_other = torch.stack([row[torch.arange(10) != y].max() for row, y in zip(logits, labels, strict=True)])
    margin = logits[torch.arange(len(labels)), labels] - best_other
    assert wide.num_correct_least == int((margin > limit).sum()) < correct
    assert wide.num_correct_most == int((margin >= -limit).sum()) > correct
