"""The networks that every study begins with."""

import pytest

from nas.architecture import Architecture, Backbone, StageFusion
from nas.errors import UserError
from nas.space import LANDMARKS, landmark, landmarks

NAMES = ["plain", "se-everywhere", "cbam-everywhere", "se-post", "se-pre", "dual-default"]


@pytest.mark.parametrize("name", ["resnet_micro", "resnet18", "resnet34d", "resnet50", "resnet14t"])
def test_all_landmarks_are_different_networks_on_every_backbone(name: str) -> None:
    backbone = Backbone(name=name)
    made = landmarks(backbone=backbone, num_classes=5, in_chans=1, norm="group")
    assert list(made) == list(LANDMARKS) == NAMES
    assert len({a.digest for a in made.values()}) == len(NAMES)
    for architecture in made.values():
        assert (architecture.backbone, architecture.num_classes) == (backbone, 5)
        assert (architecture.in_chans, architecture.norm) == (1, "group")
        assert Architecture.from_dict(architecture.to_dict()).digest == architecture.digest


def test_each_has_one_line_that_describes_it() -> None:
    for entry in LANDMARKS.values():
        assert entry.description
        assert "\n" not in entry.description


@pytest.mark.parametrize(
    ("name", "pattern", "attention"),
    [
        ("se-everywhere", "p1", "se"),
        ("cbam-everywhere", "p1", "cbam"),
        ("se-post", "p2", "se"),
        ("se-pre", "p3", "se"),
    ],
)
def test_textbook_landmarks_have_one_fusion_in_all_stages(name: str, pattern: str, attention: str) -> None:
    made = landmark(name, backbone=Backbone(name="resnet50"), num_classes=10, in_chans=3)
    expected = {"pattern": pattern, "attention": attention, "reduction": 16, "lambda_init": 1.0}
    assert [stage.to_dict() for stage in made.stages] == [expected | {"learnable": False, "gate_init": "textbook"}] * 4


def test_plain_has_no_attention() -> None:
    backbone = Backbone(name="resnet18")
    made = landmark("plain", backbone=backbone, num_classes=10, in_chans=3)
    assert made == Architecture.plain(backbone, num_classes=10)


def test_dual_default_touches_both_paths_of_the_late_stages() -> None:
    stages = landmark("dual-default", backbone=Backbone(name="resnet50"), num_classes=10, in_chans=3).stages
    assert stages[:2] == (StageFusion(), StageFusion())
    assert stages[2] == stages[3]
    assert (stages[3].pattern, stages[3].attention, stages[3].skip_attention) == ("p4", "cbam", "eca")
    assert (stages[3].gamma_skip_init, stages[3].gamma_residual_init, stages[3].learnable) == (0.0, 0.1, True)
    assert stages[3].acts_on_skip


def test_an_unknown_landmark_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"unknown landmark 'se'; known: plain, se-everywhere"):
        landmark("se", backbone=Backbone(name="resnet18"), num_classes=10, in_chans=3)
