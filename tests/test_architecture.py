import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.architecture import (
    ATTENTIONS,
    GAMMA_MARGIN,
    PATTERNS,
    SCHEMA,
    Architecture,
    Backbone,
    StageFusion,
    hidden_channels,
)
from nas.backbones import BACKBONES
from nas.errors import UserError

SE = {"pattern": "p1", "attention": "se"}
P4 = {"pattern": "p4", "attention": "cbam"}


@st.composite
def stages(draw, num_blocks):
    learnable = draw(st.booleans())
    skip = draw(st.floats(0, 1))
    gap = draw(st.floats(2 * GAMMA_MARGIN, 1))
    return StageFusion(
        pattern=draw(st.sampled_from(PATTERNS)),
        attention=draw(st.sampled_from(ATTENTIONS)),
        skip_attention=draw(st.sampled_from(["eca", "se"])),
        reduction=draw(st.integers(1, 4096)),
        lambda_init=draw(st.floats(0, 1)),
        gamma_skip_init=skip,
        gamma_residual_init=skip + gap,
        learnable=learnable,
        gate_init=draw(st.sampled_from(["textbook", "open"])),
        blocks=draw(st.none() | st.lists(st.integers(0, num_blocks - 1), max_size=2 * num_blocks)),
    )


@st.composite
def architectures(draw):
    name = draw(st.sampled_from(sorted(BACKBONES)))
    return Architecture(
        backbone=Backbone(name=name, stem=draw(st.sampled_from(["imagenet", "small"]))),
        num_classes=draw(st.integers(1, 1000)),
        in_chans=draw(st.integers(1, 4)),
        norm=draw(st.sampled_from(["batch", "group"])),
        stages=[draw(stages(num_blocks)) for num_blocks in BACKBONES[name].layers],
    )


def architecture(*given_stages, name="resnet18", **more):
    """An architecture with these stages first and plain ones after them."""
    plain = [{}] * (4 - len(given_stages))
    fields = {"num_classes": 10, **more}
    return Architecture(backbone={"name": name}, stages=[*given_stages, *plain], **fields)


def content(**changes):
    """What a correct file holds, with changes."""
    return {**architecture(SE).to_dict(), **changes}


# Files


@settings(max_examples=60, deadline=None)
@given(arch=architectures(), ending=st.sampled_from([".yaml", ".yml", ".json"]))
def test_a_saved_architecture_comes_back(tmp_path_factory, arch, ending):
    path = tmp_path_factory.mktemp("architectures") / f"arch{ending}"
    arch.save(path, provenance={"study": "digits", "trial": 3})
    loaded = Architecture.load(path)
    assert loaded.to_dict() == arch.to_dict()
    assert loaded.canonical() == arch.canonical()
    assert loaded.digest == arch.digest
    loaded.save(path)
    assert Architecture.load(path) == loaded


def test_a_file_holds_the_active_fields_the_digest_and_where_it_comes_from(tmp_path):
    arch = architecture(SE, P4)
    arch.save(tmp_path / "a.yaml", provenance={"score": 0.5})
    written = yaml.safe_load((tmp_path / "a.yaml").read_text())
    assert written["schema"] == SCHEMA == 1
    assert written["digest"] == arch.digest
    assert written["provenance"] == {"score": 0.5}
    assert list(written["stages"][0]) == [
        *("pattern", "attention", "reduction", "lambda_init", "learnable", "gate_init")
    ]
    assert list(written["stages"][1]) == [
        *("pattern", "attention", "reduction", "gamma_skip_init", "gamma_residual_init"),
        *("learnable", "gate_init"),
    ]
    assert written["stages"][2] == {"pattern": "none"}
    arch.save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == content(**arch.to_dict(), digest=arch.digest)


def test_digest_and_provenance_may_be_left_out():
    assert Architecture.from_dict(content()) == architecture(SE)


# The canonical form


@settings(deadline=None)
@given(arch=architectures())
def test_canonical_is_idempotent_and_keeps_the_digest(arch):
    canonical = arch.canonical()
    assert canonical.canonical() == canonical
    assert canonical.digest == arch.digest


@settings(deadline=None)
@given(arch=architectures())
def test_the_canonical_reduction_gives_the_same_hidden_widths(arch):
    for i, (stage, canonical) in enumerate(zip(arch.stages, arch.canonical().stages, strict=True)):
        if "reduction" not in canonical.active_fields:
            continue
        shape = arch.backbone.shape
        for channels in shape.input_channels(i, stage.blocks) if stage.pattern == "p3" else (shape.channels[i],):
            assert hidden_channels(channels, canonical.reduction) == hidden_channels(channels, stage.reduction)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"pattern": "none", "attention": "se", "reduction": 3}, {}, id="parameters of none"),
        pytest.param({**SE, "lambda_init": 0.0}, {}, id="a fixed λ of 0"),
        pytest.param({**SE, "lambda_init": -0.0}, {}, id="minus zero"),
        pytest.param({**P4, "gamma_skip_init": 0, "gamma_residual_init": 0}, {}, id="both γ fixed at 0"),
        pytest.param({**SE, "attention": "eca", "reduction": 4}, {**SE, "attention": "eca"}, id="reduction beside eca"),
        pytest.param(
            {**P4, "attention": "eca", "gamma_skip_init": 0.05, "reduction": 4},
            {**P4, "attention": "eca", "gamma_skip_init": 0.05},
            id="reduction beside eca on both paths",
        ),
        pytest.param({**SE, "reduction": 16}, {**SE, "reduction": 64}, id="both hidden widths at the least"),
        pytest.param({**SE, "lambda_init": 1}, SE, id="an integer λ"),
        pytest.param({**SE, "reduction": 22}, {**SE, "reduction": 32}, id="64 // 22 and 64 // 32, both below 4"),
        pytest.param({**SE, "gamma_skip_init": 0.3}, SE, id="γ beside p1"),
        pytest.param({**SE, "skip_attention": "se"}, SE, id="skip attention beside p1"),
        pytest.param({**P4, "lambda_init": 0.3}, P4, id="λ beside p4"),
        pytest.param({**P4, "skip_attention": "se"}, P4, id="skip attention with γ_skip fixed at 0"),
    ],
)
def test_two_spellings_of_one_network_have_one_digest(one, other):
    assert architecture(one).digest == architecture(other).digest
    assert architecture(one).canonical() == architecture(other).canonical()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({**SE, "lambda_init": 0.0, "learnable": True}, {}, id="a learned λ that starts at 0"),
        pytest.param({**SE, "reduction": 16}, {**SE, "reduction": 8}, id="hidden widths 4 and 8"),
        pytest.param({**SE, "gate_init": "open"}, SE, id="gates"),
        pytest.param({**SE, "learnable": True}, SE, id="learnable"),
        pytest.param({**SE, "lambda_init": 0.5}, SE, id="λ"),
        pytest.param({**SE, "pattern": "p2"}, SE, id="pattern"),
        pytest.param(
            {**P4, "skip_attention": "se", "learnable": True},
            {**P4, "learnable": True},
            id="skip attention with a learned γ_skip",
        ),
        pytest.param(
            {**P4, "attention": "eca", "skip_attention": "se", "gamma_skip_init": 0.05, "reduction": 4},
            {**P4, "attention": "eca", "skip_attention": "se", "gamma_skip_init": 0.05},
            id="reduction of the skip attention",
        ),
    ],
)
def test_two_networks_have_two_digests(one, other):
    assert architecture(one).digest != architecture(other).digest


def test_p3_takes_the_widths_that_its_blocks_receive():
    """The second stage of resnet18 receives 64 and 128 channels, its blocks give 128."""
    one, other = ({"pattern": "p3", "attention": "se", "reduction": r} for r in (12, 15))
    assert [hidden_channels(c, r) for r in (12, 15) for c in (64, 128)] == [5, 10, 4, 8]
    assert architecture({}, one).digest != architecture({}, other).digest
    assert architecture({}, {**other, "reduction": 16}).digest == architecture({}, other).digest


def test_a_stage_carries_its_fusion_in_all_blocks_or_in_those_that_it_names():
    stage = StageFusion(**SE, blocks=[2, 0])
    assert [stage.in_block(b) for b in range(3)] == [StageFusion(**SE), StageFusion(), StageFusion(**SE)]
    assert [StageFusion(**SE).in_block(b).is_off for b in range(3)] == [False] * 3
    assert stage.to_dict()["blocks"] == [0, 2]
    assert "blocks" not in StageFusion(**SE).to_dict()
    assert str(stage) == "p1 se/16 λ1 @0,2"
    assert str(StageFusion(**SE, blocks=[])) == "none"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({**SE, "blocks": [0, 1]}, SE, id="all"),
        pytest.param({**SE, "blocks": [1, 0, 1]}, SE, id="all, unsorted and twice"),
        pytest.param({**SE, "blocks": [1, 1]}, {**SE, "blocks": [1]}, id="twice"),
        pytest.param({**SE, "blocks": []}, {}, id="none"),
        pytest.param({"blocks": [1]}, {}, id="blocks beside none"),
        pytest.param({**SE, "lambda_init": 0.0, "blocks": [1]}, {}, id="blocks beside a fixed λ of 0"),
    ],
)
def test_two_spellings_of_the_blocks_have_one_digest(one, other):
    assert architecture(one).canonical() == architecture(other).canonical()
    assert architecture(one).digest == architecture(other).digest


def test_other_blocks_are_another_network():
    spelled = [SE, {**SE, "blocks": [0]}, {**SE, "blocks": [1]}, {}]
    assert len({architecture(stage).digest for stage in spelled}) == 4
    assert len({architecture({}, {}, stage, name="resnet34").digest for stage in spelled}) == 4


def test_where_a_stage_has_one_block_there_is_nothing_to_choose():
    micro = architecture({**SE, "blocks": [0]}, name="resnet_micro")
    assert micro.canonical() == architecture(SE, name="resnet_micro").canonical()
    assert "blocks" not in micro.canonical().stages[0].to_dict()


def test_p3_takes_the_widths_that_its_own_blocks_receive():
    """The second stage of resnet18 receives 64 channels in the first block and 128 in the second."""

    def digest(reduction, *blocks):
        return architecture({}, {"pattern": "p3", "attention": "se", "reduction": reduction, "blocks": blocks}).digest

    assert [hidden_channels(c, r) for c in (64, 128) for r in (16, 22, 32)] == [4, 4, 4, 8, 5, 4]
    assert digest(16, 0) == digest(22, 0) == digest(32, 0)
    assert len({digest(16, 1), digest(22, 1), digest(32, 1)}) == 3
    assert len({digest(16, 0, 1), digest(22, 0, 1), digest(32, 0, 1)}) == 3


@pytest.mark.parametrize(
    "change",
    [{"num_classes": 11}, {"in_chans": 1}, {"norm": "group"}, {"name": "resnet34"}],
)
def test_everything_outside_the_stages_counts(change):
    assert architecture(SE, **change).digest != architecture(SE).digest


def test_the_prefix_of_the_registered_name_is_dropped():
    assert architecture(SE, name="fusion_resnet18") == architecture(SE)


def test_the_digest_is_of_the_canonical_form_and_does_not_move():
    assert architecture(SE).digest == "278fc81548a6696a"


def test_plain_is_plain():
    arch = Architecture.plain(Backbone(name="resnet50"), num_classes=10)
    assert arch.is_plain
    assert architecture({**SE, "lambda_init": 0}).is_plain
    assert not architecture(SE).is_plain
    assert str(arch) == "none | none | none | none"
    assert str(architecture(SE, P4)) == "p1 se/16 λ1 | p4 cbam/16·0.1 | none | none"


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema: expected 1, got 2; a newer fusion-nas wrote it"),
        ({"schema": None}, "schema: expected 1, got None"),
        ({"colour": "red"}, "colour: unknown key; known: backbone, num_classes, in_chans, norm, stages"),
        ({"num_classes": 0}, "num_classes: input should be greater than or equal to 1, got 0"),
        ({"num_classes": True}, "num_classes: input should be a valid integer, got True"),
        ({"norm": "layer"}, "norm: input should be 'batch' or 'group', got 'layer'"),
        ({"backbone": {"name": "resnet19"}}, "backbone.name: unknown backbone 'resnet19'; known: resnet_micro"),
        ({"backbone": {"name": "resnet18", "stem": "big"}}, "backbone.stem: .*got 'big'"),
        ({"stages": [{}] * 3}, "stages: expected 4 stages, got 3"),
        ({"stages": [{}, {}, {"pattern": "p9"}, {}]}, "stages.2.pattern: .*got 'p9'"),
        ({"stages": [{}, {}, {"pattern": "p1"}, {}]}, "stages.2: pattern p1 needs attention: one of se, eca"),
        ({"stages": [{**SE, "attention": "simam"}] + [{}] * 3}, "stages.0.attention: .*got 'simam'"),
        ({"stages": [{**SE, "reduction": 0}] + [{}] * 3}, "stages.0.reduction: .*got 0"),
        ({"stages": [{**SE, "reduction": 2.5}] + [{}] * 3}, "stages.0.reduction: .*got 2.5"),
        ({"stages": [{**SE, "lambda_init": 1.5}] + [{}] * 3}, "stages.0.lambda_init: .*got 1.5"),
        ({"stages": [{**SE, "lambda_init": float("nan")}] + [{}] * 3}, "stages.0.lambda_init: .*got nan"),
        ({"stages": [{**P4, "skip_attention": "cbam"}] + [{}] * 3}, "stages.0.skip_attention: .*got 'cbam'"),
        (
            {"stages": [{}, {}, {**SE, "blocks": [0, 2, 5]}, {}]},
            "stages.2.blocks: this stage of the backbone has the blocks 0 to 1, got 5",
        ),
        ({"stages": [{**SE, "blocks": [-1]}] + [{}] * 3}, "stages.0.blocks.0: .*greater than or equal to 0, got -1"),
        ({"stages": [{**SE, "blocks": [True]}] + [{}] * 3}, "stages.0.blocks.0: .*valid integer, got True"),
        ({"stages": [{**SE, "blocks": 1}] + [{}] * 3}, "stages.0.blocks: .*valid tuple, got 1"),
        ({"stages": [{**SE, "colour": 1}] + [{}] * 3}, "stages.0.colour: unknown key"),
        (
            {"stages": [{**P4, "gamma_skip_init": 0.2}] + [{}] * 3},
            "stages.0: p4 needs gamma_skip_init < gamma_residual_init, got 0.2 and 0.1",
        ),
        (
            {"stages": [{**P4, "gamma_skip_init": 0.1, "learnable": True}] + [{}] * 3},
            "stages.0: p4 needs .* by more than 0.0001, got 0.1 and 0.1",
        ),
        ({"digest": "0123456789abcdef"}, "digest: 0123456789abcdef does not belong to this architecture"),
    ],
)
def test_a_wrong_file_names_itself_the_key_and_the_value(tmp_path, changes, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(content(**changes)))
    with pytest.raises(UserError, match=rf"wrong\.yaml: {message}") as caught:
        Architecture.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "[1, 2]", r"a\.yaml: expected a mapping of keys, got list"),
        ("a.yaml", "schema: 1\nschema: 1\n", r"a\.yaml, line 2: not valid YAML: the key 'schema' is given twice"),
        ("a.yaml", "stages: [", r"a\.yaml, line 1: not valid YAML"),
        ("a.json", "{", r"a\.json, line 1: not valid JSON"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        Architecture.load(tmp_path / name)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file"):
        Architecture.load(Path("nowhere.yaml"))


def test_a_changed_file_does_not_pass_for_the_old_one(tmp_path):
    path = tmp_path / "best.yaml"
    architecture(SE).save(path)
    path.write_text(path.read_text().replace("num_classes: 10", "num_classes: 100"))
    with pytest.raises(UserError, match="remove the digest if that was meant"):
        Architecture.load(path)
