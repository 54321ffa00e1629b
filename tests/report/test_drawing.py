"""Attention is drawn where its pattern puts it."""

from nas.architecture import Architecture, Backbone, StageFusion
from nas.report.drawing import stage_drawings

from .synthetic import architecture


def test_each_pattern_has_its_place() -> None:
    p1, p2, p3, p4 = stage_drawings(
        architecture(
            StageFusion(pattern="p1", attention="se"),
            StageFusion(pattern="p2", attention="cbam", learnable=True, lambda_init=0.1),
            StageFusion(pattern="p3", attention="eca", gate_init="open"),
            StageFusion(pattern="p4", attention="coord", skip_attention="se", gamma_skip_init=0.05),
        )
    )
    assert (p1.before, p1.branch, p1.skip, p1.after) == (None, "se", None, None)
    assert (p2.before, p2.branch, p2.skip, p2.after) == (None, None, None, "cbam")
    assert (p3.before, p3.branch, p3.skip, p3.after) == ("eca", None, None, None)
    assert (p4.before, p4.branch, p4.skip, p4.after) == (None, "coord", "se", None)
    assert p1.details == ("λ = 1", "fixed", "hidden width 4", "textbook gates")
    assert p2.details[:2] == ("λ from 0.1", "learnable")
    assert p3.details == ("λ = 1", "fixed", "open gates")
    assert p4.details[:2] == ("γ skip = 0.05", "γ branch = 0.1")
    assert p4.attentions == ("se", "coord")
    assert p3.spoken == "Stage 3: before the branch, eca, λ = 1, fixed, open gates"


def test_what_does_nothing_is_not_drawn() -> None:
    off = StageFusion(pattern="p2", attention="se", lambda_init=0.0)
    no_skip = StageFusion(pattern="p4", attention="eca", gamma_skip_init=0.0)
    first, second, third, _ = stage_drawings(architecture(off, no_skip))
    assert (first.pattern, first.title, first.attentions, first.details) == ("none", "plain", (), ())
    assert second.attentions == ("eca",)
    assert third.pattern == "none"


def test_blocks_that_carry_the_fusion() -> None:
    fusion = StageFusion(pattern="p1", attention="se")
    some = fusion.model_copy(update={"blocks": (0, 2)})
    network = Architecture(
        backbone=Backbone(name="resnet50"),
        num_classes=2,
        stages=(some, fusion, StageFusion(), fusion.model_copy(update={"blocks": ()})),
    )
    first, second, third, fourth = stage_drawings(network)
    assert [d.fused_blocks for d in (first, second, third, fourth)] == [(0, 2), (0, 1, 2, 3), (), ()]
    assert [d.mixes_blocks for d in (first, second, third, fourth)] == [True, False, False, False]
    assert first.details[-1] == "only in layer1.0, layer1.2"
    assert first.spoken.endswith("only in layer1.0, layer1.2")
    assert "only in" not in second.spoken


def test_width_and_depth_of_the_backbone() -> None:
    network = Architecture.plain(Backbone(name="resnet50"), num_classes=2)
    assert [(d.num_blocks, d.channels) for d in stage_drawings(network)] == [(3, 256), (4, 512), (6, 1024), (3, 2048)]
