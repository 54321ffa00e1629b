"""What a search space holds, counted and drawn, against plain enumeration of all that it could spell."""

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nas.architecture import Architecture, Backbone, StageFusion
from nas.backbones import BACKBONES as SHAPES
from nas.backbones import STAGES, BackboneShape
from nas.errors import UserError
from nas.space import SearchSpace, landmarks, list_spaces
from nas.space.vocabulary import FIELDS, StageChoices

BACKBONES = [
    Backbone(name="resnet_micro", stem="small"),
    Backbone(name="resnet18"),
    Backbone(name="resnet50"),
    Backbone(name="resnet14t"),
]
UNEVEN = "resnet_uneven"
"""Three, one, two and four blocks; two of the stages receive another number of channels than they give."""
DEEP = [UNEVEN, "resnet18"]
LARGEST = 20_000
"""Tuples of stages up to which a space with blocks is enumerated."""


@pytest.fixture(autouse=True, scope="module")
def uneven_backbone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        shape = BackboneShape(block="basic", layers=(3, 1, 2, 4), planes=(16, 16, 64, 128), in_timm=False)
        patch.setitem(SHAPES, UNEVEN, shape)
        yield


def space(**content: Any) -> SearchSpace:
    return SearchSpace.from_dict({"schema": 1, **content})


def spelled(choices: dict[str, list[Any]], fixed: dict[str, Any], num_blocks: int = 1) -> Iterator[StageFusion]:
    """Every spelling of a stage: the product of all options, `fixed` ones aside, in every set of so many blocks."""
    lists = [[fixed[field]] if field in fixed else choices[field] for field in FIELDS]
    for values in itertools.product(*lists):
        for flags in itertools.product([False, True], repeat=num_blocks):
            blocks = [block for block, carries in enumerate(flags) if carries] if num_blocks > 1 else None
            yield StageFusion(**dict(zip(FIELDS, values, strict=True)), blocks=blocks)


def brute_force(content: dict[str, Any], backbone: Backbone) -> set[tuple[Any, ...]]:
    """Distinct networks as tuples of canonical stages, from the product of all options."""
    stages = [{**content["choices"], **content["stages"].get(n, {})} for n in range(1, STAGES + 1)]
    uniform = content["constraints"]["uniform"]
    limits = content["constraints"]["fused_stages"]
    layers = backbone.shape.layers if content.get("granularity") == "block" else (1,) * STAGES
    plain = str({"pattern": "none"})
    found = set()
    for values in itertools.product(*(content["choices"][field] for field in uniform)):
        fixed = dict(zip(uniform, values, strict=True))
        forms = [
            {str(f.canonical(backbone.shape, i).to_dict()) for f in spelled(choices, fixed, layers[i])}
            for i, choices in enumerate(stages)
        ]
        for choices, of_stage in zip(stages, forms, strict=True):
            if "none" not in choices["pattern"] and not any(f.is_off for f in spelled(choices, fixed)):
                of_stage.discard(plain)  # a fusion is in at least one block
        if layers != (1,) * STAGES:
            assume(math.prod(map(len, forms)) <= LARGEST)
        found |= set(itertools.product(*forms))
    kept = {forms for forms in found if limits["min"] <= sum(f != plain for f in forms) <= limits["max"]}
    return set(itertools.product(content["norm"], kept))


def spelling(architecture: Architecture) -> tuple[Any, ...]:
    canonical = architecture.canonical()
    return canonical.norm, tuple(str(stage.to_dict()) for stage in canonical.stages)


def some(options: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(options), min_size=1, max_size=2, unique=True)


VARIED = (
    "attention",
    "skip_attention",
    "reduction",
    "lambda_init",
    "gamma_skip_init",
    "learnable",
    "gate_init",
)
ALWAYS_SHAREABLE = tuple(field for field in VARIED if field not in ("learnable", "lambda_init"))


@st.composite
def contents(draw: st.DrawFn, granularity: str = "stage") -> dict[str, Any]:
    """Small spaces: one or two options a field, patterns of their own for two stages."""
    by_block = granularity == "block"
    choices: dict[str, list[Any]] = {
        "pattern": ["none", *draw(some(["p1", "p3", "p4"]))],
        "attention": ["se"],
        "skip_attention": ["eca"],
        "reduction": [16],
        "lambda_init": [1.0],
        "gamma_skip_init": [0.0],
        "gamma_residual_init": [0.1],
        "learnable": [False],
        "gate_init": ["textbook"],
    }
    options = {
        "attention": ["se", "eca", "cbam"],
        "skip_attention": ["eca", "se"],
        "reduction": [4, 5, 8, 16, 32],
        "lambda_init": [0.0, 0.5, 1.0],
        "gamma_skip_init": [0.0, 0.05],
        "learnable": [False, True],
        "gate_init": ["textbook", "open"],
    }
    num_varied = (0, 2) if by_block else (2, 4)
    varied = draw(st.lists(st.sampled_from(VARIED), min_size=num_varied[0], max_size=num_varied[1], unique=True))
    choices.update({field: draw(some(options[field])) for field in varied})
    shareable = [field for field in VARIED if 0.0 not in choices["lambda_init"] or field in ALWAYS_SHAREABLE]
    uniform = draw(st.lists(st.sampled_from(shareable), max_size=3, unique=True))
    lowest = draw(st.integers(0, 2))
    unlimited = draw(st.booleans())
    return {
        "norm": draw(some(["batch", "group"])),
        "granularity": granularity,
        "choices": choices,
        "stages": {
            1: {"pattern": [draw(st.sampled_from(["none", "p1", "p2"]))]},
            3: {"pattern": ["none", draw(st.sampled_from(["p1", "p2", "p3", "p4"]))]},
        },
        "constraints": {
            "uniform": uniform,
            "fused_stages": {"min": 0, "max": 4}
            if unlimited
            else {"min": lowest, "max": draw(st.integers(max(lowest, 1), 4))},
        },
    }


@settings(max_examples=60, deadline=None)
@given(content=contents(), backbone=st.sampled_from(BACKBONES))
def test_it_holds_exactly_what_enumeration_finds(content: dict[str, Any], backbone: Backbone) -> None:
    holds_exactly_what_enumeration_finds(content, backbone)


@settings(max_examples=40, deadline=None)
@given(content=contents("block"), backbone=st.sampled_from(DEEP))
def test_with_blocks_it_holds_exactly_what_enumeration_finds(content: dict[str, Any], backbone: str) -> None:
    holds_exactly_what_enumeration_finds(content, Backbone(name=backbone))


def holds_exactly_what_enumeration_finds(content: dict[str, Any], backbone: Backbone) -> None:
    expected = brute_force(content, backbone)
    if not expected:
        with pytest.raises(UserError, match=r"fused_stages: expected"):
            space(**content)
        return
    tested = space(**content).on(backbone=backbone)

    assert tested.size == len(expected)
    if len(expected) > 2000:
        return
    listed = list(tested.architectures())
    assert {spelling(a) for a in listed} == expected
    assert len({a.digest for a in listed}) == len(listed) == tested.size
    asked = tested.choices()
    for architecture in listed[:: max(1, len(listed) // 50)]:
        answers = tested.encode(architecture)
        assert answers is not None
        assert tested.decode(lambda name, options, given=answers: given[name]).digest == architecture.digest
        assert all(answer in asked[name] for name, answer in answers.items())


@settings(max_examples=40, deadline=None)
@given(content=contents(), backbone=st.sampled_from(BACKBONES), seed=st.integers(0, 2**32))
def test_a_sample_is_drawn_from_fixed_questions(content: dict[str, Any], backbone: Backbone, seed: int) -> None:
    is_drawn_from_fixed_questions(content, backbone, seed)


@settings(max_examples=30, deadline=None)
@given(content=contents("block"), backbone=st.sampled_from(DEEP), seed=st.integers(0, 2**32))
def test_with_blocks_a_sample_is_drawn_from_fixed_questions(content: dict[str, Any], backbone: str, seed: int) -> None:
    is_drawn_from_fixed_questions(content, Backbone(name=backbone), seed)


def is_drawn_from_fixed_questions(content: dict[str, Any], backbone: Backbone, seed: int) -> None:
    expected = brute_force(content, backbone)
    if not expected:
        return
    tested = space(**content).on(backbone=backbone)
    static, joint = tested.choices(), tested.joint_choices()
    rng = np.random.default_rng(seed)
    for _ in range(5):
        seen: dict[str, Any] = {}

        def choose(name: str, options: tuple[Any, ...], seen: dict[str, Any] = seen) -> Any:
            assert len(options) > 1
            assert static[name] == options
            assert name not in seen
            seen[name] = options[rng.integers(len(options))]
            return seen[name]

        architecture = tested.decode(choose)
        assert seen.keys() >= set(joint)
        assert spelling(architecture) in expected
        assert architecture in tested
        answers = tested.encode(architecture)
        assert answers is not None
        assert tested.decode(lambda name, _, given=answers: given[name]).digest == architecture.digest
        # A uniform reduction can have two values with the same widths in the stages that use it.
        assert answers == seen or "all.reduction" in seen


def test_the_patterns_space_has_625_networks() -> None:
    patterns = SearchSpace.load("patterns")
    listed = list(patterns.architectures())
    assert patterns.size == len(listed) == len({a.digest for a in listed}) == 5**4
    assert {tuple(s.pattern for s in a.stages) for a in listed} == set(
        itertools.product(["none", "p1", "p2", "p3", "p4"], repeat=4)
    )


def test_size_of_the_full_space_is_the_product_of_its_stages() -> None:
    full = SearchSpace.load("full").on(backbone=Backbone(name="resnet50"))
    # On resnet50 the four reductions give four widths in every stage.
    num_single = (3 * 4 + 1) * 3 * 2 * 2  # (module and width) × λ × learnable × gate
    num_pairs = 3 * 2 * 4 + 1 + 4  # rich module beside either skip, eca beside eca, eca beside se
    num_dual = (3 * num_pairs + 3 * 4 + 1) * 2 * 2  # a constant γ_skip of 0 needs no module on the skip
    assert full.size == (1 + 3 * num_single + num_dual) ** 4


def test_samples_repeat_with_the_seed_and_differ_without() -> None:
    full = SearchSpace.load("full")
    first, again, other = ([full.sample(np.random.default_rng(s)).digest for s in seeds] for seeds in ([1], [1], [2]))
    assert first == again != other
    rng = np.random.default_rng(0)
    assert len({full.sample(rng).digest for _ in range(50)}) > 45


@pytest.mark.parametrize("name", list_spaces())
@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda b: b.name)
def test_every_sample_of_a_shipped_space_is_in_it(name: str, backbone: Backbone) -> None:
    tested = SearchSpace.load(name).on(backbone=backbone, num_classes=7, in_chans=1)
    rng = np.random.default_rng(5)
    for _ in range(40):
        architecture = tested.sample(rng)
        assert (architecture.backbone, architecture.num_classes, architecture.in_chans) == (backbone, 7, 1)
        answers = tested.encode(architecture)
        assert answers is not None
        assert tested.decode(lambda name, _, given=answers: given[name]).digest == architecture.digest
        assert architecture.canonical() in tested
        for stage in architecture.stages:
            assert stage.pattern != "p4" or stage.gamma_skip_init < stage.gamma_residual_init


def test_cautious_keeps_the_skip_untouched_in_early_stages() -> None:
    cautious = SearchSpace.load("cautious")
    rng = np.random.default_rng(0)
    drawn = [cautious.sample(rng) for _ in range(200)]
    assert all(stage.pattern in ("none", "p1", "p3") for a in drawn for stage in a.stages[:2])
    assert {a.stages[3].pattern for a in drawn} == {"none", "p1", "p2", "p3", "p4"}
    assert cautious.size < SearchSpace.load("full").size


def test_frugal_has_one_attention_in_one_or_two_stages() -> None:
    frugal = SearchSpace.load("frugal")
    rng = np.random.default_rng(0)
    placements = set()
    for _ in range(200):
        fused = [(i, s) for i, s in enumerate(frugal.sample(rng).stages) if not s.is_off]
        placements.add(tuple(i for i, _ in fused))
        assert 1 <= len(fused) <= 2
        assert len({(s.attention, s.reduction, s.gate_init) for _, s in fused}) == 1
    assert len(placements) == 4 + 6


def test_landmarks_are_in_the_spaces_that_should_hold_them() -> None:
    held = {
        name: {k for k, a in landmarks(backbone=s.backbone, num_classes=10, in_chans=3).items() if a in s}
        for name in ("full", "cautious", "patterns")
        for s in [SearchSpace.load(name)]
    }
    everything = {"plain", "se-everywhere", "cbam-everywhere", "se-post", "se-pre", "dual-default"}
    assert held == {
        "full": everything,
        "cautious": everything - {"se-post"},
        "patterns": {"plain", "se-everywhere", "se-post", "se-pre"},
    }


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda b: b.name)
def test_the_answers_of_a_landmark_decode_to_it(backbone: Backbone) -> None:
    full = SearchSpace.load("full").on(backbone=backbone)
    for architecture in landmarks(backbone=backbone, num_classes=10, in_chans=3).values():
        answers = full.encode(architecture)
        assert answers is not None
        assert full.decode(lambda name, _, given=answers: given[name]).digest == architecture.digest


def test_other_networks_are_not_in_the_space() -> None:
    patterns = SearchSpace.load("patterns")
    inside = patterns.sample(np.random.default_rng(0))
    assert inside in patterns
    assert inside.model_copy(update={"num_classes": 11}) not in patterns
    assert inside.model_copy(update={"in_chans": 1}) not in patterns
    assert inside.model_copy(update={"norm": "group"}) not in patterns
    assert inside.model_copy(update={"backbone": Backbone(name="resnet18")}) not in patterns
    coord = StageFusion(pattern="p1", attention="coord")
    assert inside.model_copy(update={"stages": (coord, *inside.stages[1:])}) not in patterns
    assert "plain" not in patterns


def test_two_spellings_of_a_network_are_both_in_the_space() -> None:
    patterns = SearchSpace.load("patterns")
    spellings = [StageFusion(pattern="p1", attention="se", reduction=r) for r in (4, 16)]
    for fusion in spellings:  # 16 channels: both have a hidden width of 4
        architecture = patterns.sample(np.random.default_rng(0)).model_copy(
            update={"stages": (fusion, *(StageFusion(),) * 3)}
        )
        assert architecture in patterns


def test_only_what_changes_the_network_is_asked() -> None:
    full = SearchSpace.load("full").on(backbone=Backbone(name="resnet50"))

    def asked(**wanted: Any) -> set[str]:
        """What is asked about stage 4 where the other stages are plain."""
        names = set()

        def choose(name: str, options: tuple[Any, ...]) -> Any:
            stage, field = name.split(".", 1)
            if stage != "stage4":
                return "none"
            names.add(field)
            return wanted.get(field, options[0])

        full.decode(choose)
        return names

    branch = {"pattern", "attention", "lambda_init", "learnable", "gate_init"}
    dual = {"pattern", "attention", "gamma_skip_init", "gamma_residual_init", "learnable", "gate_init"}
    assert asked(pattern="none") == {"pattern"}
    assert asked(pattern="p1", attention="eca") == branch
    assert asked(pattern="p2", attention="cbam") == branch | {"reduction"}
    assert asked(pattern="p4", attention="eca", learnable=False, gamma_skip_init=0.0) == dual
    assert asked(pattern="p4", attention="eca", learnable=False, gamma_skip_init=0.05) == dual | {"skip_attention"}
    assert asked(pattern="p4", attention="eca", learnable=True, skip_attention="se") == dual | {
        "skip_attention",
        "reduction",
    }


def test_reductions_with_one_width_are_one_option() -> None:
    choices = {"pattern": ["p1", "p3"], "attention": ["se"], "reduction": [4, 8, 16, 32]}
    asked = space(choices=choices).choices()  # widths 16, 32, 64, 128; p3 sees 16, 16, 32, 64
    assert {name: options for name, options in asked.items() if "reduction" in name} == {
        "stage2.reduction": (4, 8),
        "stage3.reduction": (4, 8, 16),
        "stage3.reduction.p3": (4, 8),
        "stage4.reduction": (4, 8, 16, 32),
        "stage4.reduction.p3": (4, 8, 16),
    }


def test_a_constant_lambda_of_zero_is_drawn_as_pattern_none() -> None:
    tested = space(
        choices={
            "pattern": ["p1"],
            "attention": ["eca"],
            "lambda_init": [0.0, 0.5, 1.0],
            "learnable": [False, True],
        },
        stages={n: {"pattern": ["none"]} for n in (1, 2, 3)},
    )
    assert tested.size == 1 + 2 + 3
    assert tested.choices() == {
        "stage4.pattern": ("p1", "none"),
        "stage4.learnable": (False, True),
        "stage4.lambda_init": (0.0, 0.5, 1.0),
        "stage4.lambda_init.fixed": (0.5, 1.0),
    }


def test_a_space_of_one_network_asks_nothing() -> None:
    tested = space(choices={"pattern": ["p1"], "attention": ["eca"]})
    assert tested.choices() == {}
    assert tested.size == 1
    assert tested.encode(tested.sample(np.random.default_rng(0))) == {}


def test_uniform_patterns_are_asked_once() -> None:
    tested = space(
        choices={"pattern": ["none", "p1", "p2"], "attention": ["se", "eca"]},
        constraints={"uniform": ["pattern"]},
    )
    assert tested.size == 1 + 2 * 2**4
    assert tested.choices()["all.pattern"] == ("none", "p1", "p2")
    assert "fused_stages" not in tested.choices()


def test_placement_is_one_question() -> None:
    tested = space(
        choices={"pattern": ["none", "p1"], "attention": ["se"]},
        stages={1: {"pattern": ["none"]}, 4: {"pattern": ["p1"]}},
        constraints={"fused_stages": {"max": 2}},
    )
    assert tested.choices() == {"fused_stages": ("4", "3+4", "2+4")}
    assert tested.size == 3


def test_an_answer_that_is_no_option_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"stage1\.pattern: expected one of \('none', .*\), got 'p5'"):
        SearchSpace.load("patterns").decode(lambda name, options: "p5")


def test_too_many_networks_are_not_listed() -> None:
    full = SearchSpace.load("full")
    with pytest.raises(UserError, match=rf"full: {full.size:,} architectures are too many to list"):
        full.architectures()


def test_blocks_are_asked_in_fused_stages_until_one_is_certain() -> None:
    tested = SearchSpace.load("blocks").on(backbone=Backbone(name=UNEVEN))
    assert tested.size == 2 ** (3 + 1 + 2 + 4)
    assert tested.joint_choices() == tuple(f"stage{n}.pattern" for n in (1, 2, 3, 4))

    def asked(**wanted: Any) -> tuple[dict[str, Any], StageFusion]:
        """What is asked about stage 1 where the other stages are plain, and what comes of it."""
        answers: dict[str, Any] = {}

        def choose(name: str, options: tuple[Any, ...]) -> Any:
            stage, field = name.split(".", 1)
            if stage != "stage1":
                return "none"
            answers[field] = wanted.get(field, options[0])
            return answers[field]

        return answers, tested.decode(choose).stages[0]

    se = StageFusion(pattern="p1", attention="se")
    assert asked() == ({"pattern": "none"}, StageFusion())
    every = {"pattern": "p1", "block0": True, "block1": True, "block2": True}
    assert asked(pattern="p1") == (every, se)
    some = {**every, "block1": False}
    assert asked(**some) == (some, se.model_copy(update={"blocks": (0, 2)}))
    # No fusion in a fused stage would be pattern none a second time: the last block is not asked.
    last = {"pattern": "p1", "block0": False, "block1": False}
    assert asked(**last, block2=False) == (last, se.model_copy(update={"blocks": (2,)}))


def test_blocks_of_stages_that_are_always_fused_are_asked_of_all() -> None:
    tested = space(
        granularity="block",
        backbone={"name": UNEVEN},
        choices={"pattern": ["p1"], "attention": ["se"]},
        stages={4: {"pattern": ["none", "p1"]}},
    )
    assert tested.joint_choices() == ("stage4.pattern", "stage1.block0", "stage1.block1", "stage3.block0")
    assert tested.size == 7 * 1 * 3 * 16


def test_where_stages_have_one_block_granularity_changes_nothing() -> None:
    blocks = SearchSpace.from_dict({"schema": 1, "extends": "patterns", "granularity": "block"})
    stages = SearchSpace.load("patterns")
    assert blocks.choices() == stages.choices()
    assert {a.digest for a in blocks.architectures()} == {a.digest for a in stages.architectures()}
    assert blocks.digest != stages.digest  # another backbone tells them apart
    assert blocks.on(backbone=Backbone(name="resnet18")).size == (1 + 4 * 3) ** 4


def test_a_network_of_single_blocks_is_not_in_a_space_of_stages() -> None:
    blocks, stages = (
        space(choices={"pattern": ["none", "p1"], "attention": ["se"]}, granularity=granularity).on(
            backbone=Backbone(name="resnet18")
        )
        for granularity in ("block", "stage")
    )
    assert all(a in blocks for a in stages.architectures())
    assert [a in stages for a in blocks.architectures()].count(True) == stages.size < blocks.size


def test_deep_stages_are_counted_without_listing_their_blocks() -> None:
    tested = SearchSpace.load("blocks").on(backbone=Backbone(name="resnet200"))
    assert tested.size == 2 ** (3 + 24 + 36 + 3)
    assert tested.sample(np.random.default_rng(0)) in tested


def test_p3_in_single_blocks_has_the_reductions_of_their_widths() -> None:
    """Stage 4 receives 64 channels in its first block and 128 in the others."""
    tested = space(
        backbone={"name": UNEVEN},
        granularity="block",
        choices={"pattern": ["p1", "p3"], "attention": ["se"], "reduction": [12, 15, 16, 22, 32]},
        stages={n: {"pattern": ["none"]} for n in (1, 2, 3)},
    )
    assert {name: options for name, options in tested.choices().items() if "reduction" in name} == {
        "stage4.reduction": (12, 15, 22, 32),  # widths 10, 8, 8, 5, 4
        "stage4.reduction.p3.first": (12, 15),  # widths 5, 4, 4, 4, 4
    }


@pytest.mark.parametrize("name", list_spaces())
def test_the_stored_content_gives_the_same_space(name: str) -> None:
    original = SearchSpace.load(name).on(backbone=Backbone(name="resnet18"), num_classes=3, in_chans=1)
    stored = SearchSpace.from_dict(json.loads(json.dumps(original.to_dict())))
    assert stored == original
    assert stored.to_dict() == original.to_dict()
    assert stored.digest == original.digest
    assert stored.choices() == original.choices()


def test_the_digest_is_of_the_choices_not_of_the_names() -> None:
    content = {"choices": {"pattern": ["none", "p1"], "attention": ["se"]}}
    first = space(**content)
    assert first.digest == space(**content, name="other", description="another word for it").digest
    assert first.digest == space(**content, stages={1: {"pattern": ["none", "p1"]}}).digest
    assert first.digest != space(**content, norm=["group"]).digest
    assert first.digest != first.on(num_classes=11).digest


def test_what_is_left_out_has_the_defaults_of_a_stage() -> None:
    defaults = StageChoices()
    for field in FIELDS:
        if field not in ("pattern", "attention"):
            assert defaults.options(field) == (StageFusion.model_fields[field].default,)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_extends_inherits_and_overrides(tmp_path: Path) -> None:
    write(
        tmp_path,
        "base.yaml",
        """
        schema: 1
        description: base
        norm: [batch, group]
        choices: {pattern: [none, p1], attention: [se, eca], reduction: [4, 8]}
        stages: {3: {pattern: [none, p2], reduction: [4]}}
        constraints: {uniform: [attention], fused_stages: {max: 3}}
        """,
    )
    child = SearchSpace.load(
        write(
            tmp_path,
            "child.yaml",
            """
            schema: 1
            extends: ./base.yaml
            num_classes: 4
            choices: {reduction: [16]}
            stages: {4: {pattern: [p3]}}
            constraints: {fused_stages: {min: 1, max: 2}}
            """,
        )
    )
    assert (child.name, child.description, child.num_classes, child.norm) == (
        "child",
        "base",
        4,
        ("batch", "group"),
    )
    assert [s.pattern for s in child.stages] == [("none", "p1"), ("none", "p1"), ("none", "p2"), ("p3",)]
    assert {s.reduction for s in child.stages} == {(16,)}  # also replaces the parent's options of stage 3
    assert child.uniform == ("attention",)
    assert (child.fused_stages.min, child.fused_stages.max) == (1, 2)


def test_extends_takes_shipped_names_and_paths_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path, "mine.yaml", "{schema: 1, extends: full, choices: {attention: [eca]}}")
    path = write(tmp_path / "deep", "cut.yaml", "{schema: 1, extends: ../mine.yaml, choices: {pattern: [none, p1]}}")
    assert SearchSpace.load(path).size == (1 + 3 * 2 * 2) ** 4
    assert SearchSpace.load("deep/cut.yaml", relative_to=tmp_path) == SearchSpace.load(path)


def test_a_circle_of_files_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "{schema: 1, extends: b.yaml}")
    write(tmp_path, "b.yaml", "{schema: 1, extends: a.yaml}")
    with pytest.raises(UserError, match=r"extends: [ab]\.yaml leads back to a file that extends it"):
        SearchSpace.load(tmp_path / "a.yaml")


GOOD = {"pattern": ["none", "p1", "p4"], "attention": ["se", "eca"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"choices": {**GOOD, "pattern": ["none", "p9"]}}, r"choices\.pattern\.1: .*'p4', got 'p9'"),
        ({"choices": {**GOOD, "attention": ["sea"]}}, r"choices\.attention\.0: .*'coord', got 'sea'"),
        (
            {"choices": {**GOOD, "skip_attention": ["cbam"]}},
            r"choices\.skip_attention\.0: .*'se', got 'cbam'",
        ),
        (
            {"choices": {**GOOD, "reduction": [0]}},
            r"choices\.reduction\.0: .* greater than or equal to 1, got 0",
        ),
        ({"choices": {**GOOD, "reduction": [2.5]}}, r"choices\.reduction\.0: .*integer, got 2\.5"),
        (
            {"choices": {**GOOD, "lambda_init": [0.5, 1.5]}},
            r"choices\.lambda_init\.1: .*equal to 1, got 1\.5",
        ),
        ({"choices": {**GOOD, "lambda_init": [True]}}, r"choices\.lambda_init\.0: .*number, got True"),
        ({"choices": {**GOOD, "learnable": [1]}}, r"choices\.learnable\.0: .*boolean, got 1"),
        (
            {"choices": {**GOOD, "gamma_skip_init": [-0.1]}},
            r"choices\.gamma_skip_init\.0: .*equal to 0, got -0\.1",
        ),
        ({"choices": {**GOOD, "gate_init": ["ajar"]}}, r"choices\.gate_init\.0: .*'open', got 'ajar'"),
        ({"choices": {**GOOD, "patern": ["p1"]}}, r"choices\.patern: unknown key; known: pattern, attention"),
        ({"choices": {**GOOD, "reduction": []}}, r"choices\.reduction: expected at least one option"),
        ({"choices": {**GOOD, "reduction": 16}}, r"choices\.reduction: expected a list of options, got 16"),
        ({"choices": {**GOOD, "reduction": [8, 16, 8]}}, r"choices\.reduction: the option 8 is given twice"),
        ({"choices": {"attention": ["se"]}}, r"choices\.pattern: this key is missing"),
        (
            {"choices": {"pattern": ["none", "p1"]}},
            r"choices\.attention: this key is missing.*se, eca, cbam, coord",
        ),
        (
            {"choices": {**GOOD, "gamma_skip_init": [0.0, 0.2], "gamma_residual_init": [0.1, 0.3]}},
            r"choices\.gamma_skip_init: p4 needs .* got 0\.2 and 0\.1",
        ),
        (
            {"choices": GOOD, "stages": {4: {"gamma_skip_init": [0.1]}}},
            r"stages\.4\.gamma_skip_init: p4 needs .* got 0\.1 and 0\.1",
        ),
        (
            {
                "choices": {
                    **GOOD,
                    "learnable": [True],
                    "gamma_skip_init": [0.1],
                    "gamma_residual_init": [0.10005],
                }
            },
            r"by more than 0\.0001, got 0\.1 and 0\.10005",
        ),
        (
            {"choices": GOOD, "stages": {0: {"pattern": ["p1"]}}},
            r"stages\.0.*greater than or equal to 1, got 0",
        ),
        ({"choices": GOOD, "stages": {5: {"pattern": ["p1"]}}}, r"stages\.5.*less than or equal to 4, got 5"),
        ({"choices": GOOD, "stages": {2: {"pattern": ["p7"]}}}, r"stages\.2\.pattern\.0: .*got 'p7'"),
        (
            {"choices": GOOD, "stages": {2: {"patern": ["p1"]}}},
            r"stages\.2\.patern: unknown key; known: pattern",
        ),
        ({"choices": GOOD, "norm": []}, r"norm: expected at least one option"),
        ({"choices": GOOD, "norm": ["layer"]}, r"norm\.0: .*'group', got 'layer'"),
        ({"choices": GOOD, "norm": ["batch", "batch"]}, r"norm: the option 'batch' is given twice"),
        (
            {"choices": GOOD, "backbone": {"name": "vgg11"}},
            r"backbone\.name: unknown backbone 'vgg11'; known: .*resnet18",
        ),
        ({"choices": GOOD, "granularity": "blocks"}, r"granularity: .*'stage' or 'block', got 'blocks'"),
        ({"choices": GOOD, "num_classes": 0}, r"num_classes: .*got 0"),
        ({"choices": GOOD, "choice": {}}, r"choice: unknown key; known: name, description, extends"),
        (
            {"choices": GOOD, "extends": "fulll"},
            r"extends: unknown search space 'fulll'; shipped: blocks, cautious, .*full",
        ),
        (
            {"choices": GOOD, "extends": "no/such.yaml"},
            r"extends: no/such\.yaml: no such search space; shipped: ",
        ),
        ({"choices": GOOD, "constraints": {"uniform": ["depth"]}}, r"constraints\.uniform\.0: .*got 'depth'"),
        (
            {"choices": GOOD, "constraints": {"uniform": ["reduction", "reduction"]}},
            r"constraints\.uniform: the option 'reduction' is given twice",
        ),
        (
            {"choices": GOOD, "stages": {3: {"reduction": [8]}}, "constraints": {"uniform": ["reduction"]}},
            r"stages\.3\.reduction: constraints\.uniform names reduction",
        ),
        (
            {"choices": GOOD, "constraints": {"fused_stages": {"min": 3, "max": 2}}},
            r"constraints\.fused_stages: min <= max must hold, got 3 and 2",
        ),
        (
            {"choices": GOOD, "constraints": {"fused_stages": {"max": 5}}},
            r"constraints\.fused_stages\.max: .*got 5",
        ),
        (
            {
                "choices": GOOD,
                "stages": {1: {"pattern": ["none"]}, 2: {"pattern": ["none"]}, 3: {"pattern": ["p1"]}},
                "constraints": {"fused_stages": {"min": 3}},
            },
            r"constraints\.fused_stages: expected 3 to 4 stages with attention, but .* allow 1 to 2",
        ),
        (
            {"choices": GOOD, "constraints": {"uniform": ["pattern"], "fused_stages": {"max": 2}}},
            r"constraints\.fused_stages: cannot be combined with a uniform pattern",
        ),
        (
            {"choices": {**GOOD, "lambda_init": [0.0, 1.0]}, "constraints": {"uniform": ["lambda_init"]}},
            r"choices\.lambda_init: 0 beside learnable: false is pattern none while lambda_init is uniform",
        ),
    ],
)
def test_bad_content_is_one_line_with_file_key_and_value(content: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        SearchSpace.from_dict({"schema": 1, **content}, "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"my\.yaml: expected a mapping of keys, got list"),
        ({"choices": GOOD}, r"my\.yaml: schema: expected 1, got None"),
        ({"schema": 2, "choices": GOOD}, r"my\.yaml: schema: expected 1, got 2; a newer fusion-nas wrote it"),
    ],
)
def test_a_file_of_another_kind_is_refused(content: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SearchSpace.from_dict(content, "my.yaml")


def test_an_error_in_an_extended_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "{schema: 1, choices: {pattern: [p8]}}")
    path = write(tmp_path, "child.yaml", "{schema: 1, extends: base.yaml}")
    with pytest.raises(UserError, match=r"base\.yaml: choices\.pattern\.0: .*got 'p8'"):
        SearchSpace.load(path)
