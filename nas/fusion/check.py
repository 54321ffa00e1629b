"""The checklist of a fused network, each line answered by running the network on probe tensors."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas.architecture import Architecture
from nas.errors import UserError
from nas.fusion.block_questions import QUESTIONS, Answer, Question, Verdict, pass_if
from nas.fusion.blocks import FusedBlock
from nas.fusion.inherit import inherit
from nas.fusion.models import FusionResNet, build_model, open_branches
from nas.fusion.probe import Probe, set_strength, stirred

TRUNK = (0.5, 2.0)
"""Standard deviation of a stage's output at the start, relative to the plain network, without a warning."""


@dataclass(frozen=True, kw_only=True)
class CheckLine:
    """One question to the network and what it answered."""

    name: str
    question: str
    verdict: Verdict
    evidence: str
    """What was measured, and in the worst block if several were asked."""


_WORST: tuple[Verdict, ...] = ("fail", "warn", "pass")


def check(network: Architecture | FusionResNet) -> tuple[CheckLine, ...]:
    """Run the checklist on a network as it starts; lines about patterns that it does not have are left out.

    An architecture is built with a fixed seed; torch's global generator stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(network) if isinstance(network, Architecture) else network
        model = copy.deepcopy(model).cpu().eval()
        blocks = {n: m.double() for n, m in copy.deepcopy(model).named_modules() if isinstance(m, FusedBlock)}
        return (*_answers(blocks), strength_zero(model), trunk_scale(model))


def _answers(blocks: dict[str, Any]) -> Iterator[CheckLine]:
    """The line of every question that concerns a block, with the worst answer."""
    answers: dict[str, list[tuple[str, Verdict, str]]] = {question.name: [] for question in QUESTIONS}
    for name, block in blocks.items():
        loud = Probe(stirred(block))
        for question in QUESTIONS:
            if question.concerns(loud):
                probe = loud if question.stir else Probe(copy.deepcopy(block))
                answers[question.name].append((name, *_answer(question, probe)))
    for question in QUESTIONS:
        if given := answers[question.name]:
            name, verdict, evidence = min(given, key=lambda answer: _WORST.index(answer[1]))
            where = f"{name} (of {len(given)} blocks)" if len(given) > 1 else name
            yield CheckLine(
                name=question.name, question=question.text, verdict=verdict, evidence=f"{where}: {evidence}"
            )


def _answer(question: Question, probe: Probe) -> Answer:
    try:
        return question.ask(probe)
    except RuntimeError as error:  # shapes that do not fit: the block cannot be run at all
        return "fail", str(error).splitlines()[0]


def plain_twin(model: FusionResNet) -> FusionResNet:
    """The network without its fusion, with the same weights."""
    twin = FusionResNet(
        model.backbone, None, model.stem, model.norm, in_chans=model.in_chans, num_classes=model.num_classes
    )
    own = model.state_dict()
    inherit(twin, {key: own[key] for key in own if key not in model.fusion_keys()})
    twin.train(model.training)
    return twin


def images(model: FusionResNet, count: int) -> Tensor:
    """Random images of which the last stage makes 4×4 positions or 2×2."""
    side = 32 if model.stem == "small" else 64
    return torch.randn(count, model.in_chans, side, side)


def strength_zero(model: FusionResNet) -> CheckLine:
    """With every λ and γ at 0 the network is the plain one, bit for bit."""
    model = copy.deepcopy(model)
    open_branches(model)
    for block in model.modules():
        if isinstance(block, FusedBlock):
            set_strength(block, 0.0)
    x = images(model, 1)
    try:
        with torch.no_grad():
            difference = float((model(x) - plain_twin(model)(x)).abs().max())
    except (RuntimeError, UserError) as error:
        verdict, evidence = pass_if(False), str(error).splitlines()[0]
    else:
        verdict, evidence = pass_if(difference == 0), f"largest difference of logits: {difference:g}"
    return CheckLine(
        name="strength-zero", question="is λ = γ = 0 the plain network?", verdict=verdict, evidence=evidence
    )


def stage_scales(model: FusionResNet, x: Tensor) -> list[float]:
    """Standard deviation of the output of each stage, on statistics of this batch."""
    with torch.no_grad():
        features = model.train().forward_intermediates(x, intermediates_only=True)
    return [float(feature.std()) for feature in features[1:]]


def trunk_scale(model: FusionResNet) -> CheckLine:
    """How large each stage's output starts, against the plain network with the same weights."""
    model = copy.deepcopy(model)
    open_branches(model)
    x = images(model, 4)
    question = "does the trunk start as large as the plain one?"
    try:
        plain = stage_scales(plain_twin(model), x)
        ratios = [own / other for own, other in zip(stage_scales(model, x), plain, strict=True)]
    except (RuntimeError, UserError) as error:
        return CheckLine(name="trunk-scale", question=question, verdict="fail", evidence=str(error).splitlines()[0])
    good = all(TRUNK[0] <= ratio <= TRUNK[1] for ratio in ratios)
    evidence = "std of stages 1–4 relative to plain: " + ", ".join(f"{ratio:.3g}" for ratio in ratios)
    return CheckLine(name="trunk-scale", question=question, verdict="pass" if good else "warn", evidence=evidence)
