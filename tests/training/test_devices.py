"""Everything that runs on the device of a training, on one that is no CPU and has no float64."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nas.architecture import Architecture, Backbone, StageFusion
from nas.estimate.shared_scoring import SharedScorer
from nas.estimate.shared_training import train_shared
from nas.measurement import Outcome
from nas.space.space import SearchSpace
from nas.training import run
from nas.training.config import DataConfig, TrainingConfig
from nas.training.data import open_data
from nas.training.pace import measure_pace
from nas.training.run import train
from nas.training.testing import correct_on_test
from tests import far, warm

MICRO = Backbone(name="resnet_micro", stem="small")
FUSED = Architecture(
    backbone=MICRO,
    num_classes=10,
    in_chans=1,
    stages=(
        StageFusion(pattern="p1", attention="se", learnable=True, lambda_init=0.5),
        StageFusion(pattern="p2", attention="eca"),
        StageFusion(pattern="p3", attention="coord"),
        StageFusion(pattern="p4", attention="cbam", learnable=True),
    ),
)
CONFIG = TrainingConfig(epochs=2, threads=1, device="cpu")
DATA = DataConfig(num_train=200)


def trains(folder: Path) -> object:
    """Training, validation, guard and both halves of a run that was interrupted between them."""
    data, checkpoint = open_data(DATA), folder / "run.ckpt"
    whole = train(FUSED, data, CONFIG, seed=0)
    train(FUSED, data, CONFIG, seed=0, checkpoint=checkpoint, on_epoch=lambda _: "enough")
    resumed = train(FUSED, data, CONFIG, seed=0, checkpoint=checkpoint, on_epoch=lambda _: None)
    assert resumed.outcome is whole.outcome is Outcome.COMPLETE
    return [(round(epoch.train_loss, 4), epoch.val_accuracy) for epoch in (*whole.epochs, *resumed.epochs)]


def takes_a_second_look(folder: Path) -> object:
    """Shuffled labels, which the guard only judges after a look with the statistics of each batch."""
    data = open_data(DATA)
    labels = data._parts["train"][1]
    labels.copy_(labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))])
    ended = train(FUSED, data, CONFIG.model_copy(update={"epochs": 12}), seed=0)
    return ended.outcome, ended.score


def augments(folder: Path) -> object:
    """Every step that training images can take."""
    data = open_data(
        DataConfig(
            source="cued-digits",
            num_train=64,
            augment={"crop": "resized", "flip": 0.5, "color": 0.4, "erase": 0.5, "mixup": 0.2, "cutmix": 1.0},
        )
    )
    score = train(Architecture.plain(MICRO, num_classes=10, in_chans=3), data, CONFIG, seed=0).score
    images, _ = next(iter(data.train_batches(batch_size=64, seed=0, on=run.resolve_device("cpu"))))
    return score, [round(value, 2) for value in images.flatten()[::10].tolist()]


def decodes(folder: Path) -> object:
    """Image files that are decoded while they are used, through timm's prefetching loader."""
    from PIL import Image

    for number in range(24):
        file = folder / "images" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (10 * number, 90 * (number % 2), 0)).save(file)
    data = open_data(DataConfig(source=f"folder:{folder / 'images'}", image_size=32, cache="off"))
    return train(Architecture.plain(MICRO, num_classes=2), data, CONFIG, seed=0).score


def shares(folder: Path) -> object:
    """A shared network, and a score of it."""
    space = SearchSpace.load("cautious").on(backbone=MICRO, num_classes=10, in_chans=1)
    data = open_data(DATA)
    trained = train_shared(space, "batch", data, CONFIG, seed=0, checkpoint=folder / "shared.ckpt")
    scorer = SharedScorer(trained, data)
    return scorer.score(Architecture.plain(MICRO, num_classes=10, in_chans=1)).accuracy


def looks(folder: Path) -> object:
    """The look at the test part."""
    from nas.fusion.models import build_model

    torch.manual_seed(0)
    return correct_on_test(build_model(FUSED), open_data(DATA), CONFIG)


def is_timed(folder: Path) -> object:
    """The pace before a study."""
    pace = measure_pace(FUSED, open_data(DATA), CONFIG, limit_s=0.01)
    return pace.train > 0, pace.val > 0


CASES: dict[str, Callable[[Path], object]] = {
    case.__name__: case for case in (trains, takes_a_second_look, augments, decodes, shares, looks, is_timed)
}


def program(arguments: list[str]) -> int:
    """Run one case, near or far, in a process of its own, and print what it gives."""
    where, case, folder = arguments
    torch.set_num_threads(1)
    if where == "far":
        far.register()
    json.dump(CASES[case](Path(folder)), sys.stdout, default=str)
    return 0


@pytest.mark.parametrize("case", CASES)
def test_nothing_asks_for_float64_and_the_result_is_the_cpus(case, tmp_path):
    given = {}
    for where in ("near", "far"):
        (folder := tmp_path / where).mkdir()
        done = warm.run(where, case, folder, program=program)
        assert done.returncode == 0, done.stderr
        given[where] = json.loads(done.stdout)
    assert given["far"] == given["near"]


def test_the_device_of_this_test_refuses(tmp_path):
    done = warm.run(program=refusals)
    assert done.stdout.splitlines() == ["TypeError", "TypeError", "RuntimeError"], done.stderr


def refusals(_: list[str]) -> int:
    """What the far device does not do."""
    device = far.register()
    x = torch.ones(3).to(device)
    for attempt in (x.double, lambda: torch.zeros(3, dtype=torch.float64, device=device), lambda: x + torch.ones(3)):
        try:
            attempt()
        except (TypeError, RuntimeError) as error:
            sys.stdout.write(f"{type(error).__name__}\n")
    return 0
