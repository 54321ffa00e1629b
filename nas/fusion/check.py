"""The checklist of a fused network, each line answered by running the network on probe tensors.

Nothing is read from the code of a block. Hooks put chosen tensors s and f in the place of what the skip and the
residual branch give and catch what enters the final activation: out(s, f), the pattern as a function. Its reaction
to changes of s and f tells what the attention sees, what it moves, and how.

s, f, out: (B, C, H, W); x: input of the block, (B, C_in, H, W). Probes run in float64 on a copy of the network.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.errors import UserError
from nas.fusion.blocks import FusedBlock
from nas.fusion.inherit import inherit
from nas.fusion.masks import Mask
from nas.fusion.models import FusionResNet, build_model, open_branches

Verdict = Literal["pass", "warn", "fail"]

EXACT = 1e-9
"""Largest relative difference in float64 of two computations of one value."""
MOVED = 1e-6
"""Smallest relative difference that counts as a reaction."""
NEAR_PLAIN = 0.2
"""A block that touches the skip is tied down where it starts within this relative distance of the plain block."""
OPEN = 0.95
"""Least mean of an open mask at the start."""
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


class Probe:
    """One fused block of a network, with s and f in our hands."""

    def __init__(self, block: Any) -> None:
        self.block = block
        self.pattern: str = block.fusion.pattern
        last_norm = "bn3" if isinstance(block, Bottleneck) else "bn2"
        self.norm = getattr(block, last_norm)
        self.act = block.act3 if isinstance(block, Bottleneck) else block.act2
        self.stride = block.conv2.stride[0] if isinstance(block, Bottleneck) else block.conv1.stride[0]
        self.channels: int = self.norm.weight.shape[0]
        self.inplanes: int = block.conv1.in_channels
        self.changes_shape = self.stride != 1 or self.inplanes != self.channels

    def tensor(self, channels: int, side: int, seed: int) -> Tensor:
        """Random values that differ between channels and between positions, so that every descriptor does."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        return normal(2, channels, side, side) + normal(2, channels, 1, 1) + normal(2, 1, side, side)

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """x, s and f; where the skip is the identity, s is x."""
        x = self.tensor(self.inplanes, 4 * self.stride, seed=1)
        s = self.tensor(self.channels, 4, seed=2) if self.changes_shape else x
        return x, s, self.tensor(self.channels, 4, seed=3)

    def run(self, x: Tensor, s: Tensor | None = None, f: Tensor | None = None) -> dict[str, Tensor]:
        """What enters the final activation (``out``), the residual branch (``branch``) and the projection (``skip``).

        Without ``s`` or ``f`` the block computes its own.
        """
        seen: dict[str, Tensor] = {}

        def see(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            return lambda _module, args: seen.__setitem__(name, args[0].clone())

        def give(value: Tensor) -> Callable[..., Tensor]:
            return lambda *_: value.clone()

        with ExitStack() as hooks, torch.no_grad():
            hooks.enter_context(_removing(self.act.register_forward_pre_hook(see("out"))))
            hooks.enter_context(_removing(self.block.conv1.register_forward_pre_hook(see("branch"))))
            if self.block.downsample is not None:
                hooks.enter_context(_removing(self.block.downsample.register_forward_pre_hook(see("skip"))))
                if s is not None:
                    hooks.enter_context(_removing(self.block.downsample.register_forward_hook(give(s))))
            elif s is not None:
                x = s
            if f is not None:
                hooks.enter_context(_removing(self.norm.register_forward_hook(give(f))))
            self.block(x.clone())
        return seen

    def out(self, s: Tensor, f: Tensor) -> Tensor:
        """The pattern as a function of skip and residual."""
        return self.run(self.inputs()[0], s, f)["out"]


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def gates_fixed(block: nn.Module, value: float) -> Iterator[None]:
    """Freeze the attention of a block: every gate gives ``value``."""
    with ExitStack() as hooks:
        for name, module in block.named_modules():
            if name.rpartition(".")[2] == "gate":
                hooks.enter_context(
                    _removing(module.register_forward_hook(lambda _m, _a, out: torch.full_like(out, value)))
                )
        yield


def set_strength(block: Any, value: float) -> None:
    """Make λ, or both γ, the constant ``value``."""
    block.lam = block.gamma_skip = block.gamma_gap = None
    block.fixed_lambda = block.fixed_gamma_skip = block.fixed_gamma_residual = value


def stirred(block: Any) -> Any:
    """A copy at full strength whose masks have random weights, so that what attention does can be seen."""
    block = copy.deepcopy(block)
    set_strength(block, 1.0)
    generator = torch.Generator().manual_seed(0)
    for mask in (module for module in block.modules() if isinstance(module, Mask)):
        for parameter in mask.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data.copy_(noise / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else noise)
    return block


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


# The questions to one block: each gives a verdict and its evidence.

Answer = tuple[Verdict, str]


def _verdict(good: bool) -> Verdict:
    return "pass" if good else "fail"


def ask_projection(probe: Probe) -> Answer:
    """Where stride or width change, out must follow the projection's output, which is made from the raw x."""
    if probe.block.downsample is None:
        return "fail", f"{probe.inplanes} → {probe.channels} channels at stride {probe.stride} without a projection"
    x, s, f = probe.inputs()
    seen = probe.run(x, s, f)
    if not torch.equal(seen.get("skip", s), x):
        return "fail", "the projection does not get the raw input of the block"
    with gates_fixed(probe.block, 0.0):
        set_strength(probe.block, 0.0)
        moved = distance(probe.out(s, f), s + f)
    return _verdict(moved <= EXACT), f"with attention off, the sum differs by {moved:.1e} from projection + residual"


def ask_shape(probe: Probe) -> Answer:
    """s, f and out have one shape: that of the plain block."""
    x, s, _ = probe.inputs()
    got, expected = tuple(probe.run(x)["out"].shape), tuple(s.shape)
    return _verdict(got == expected), f"output {got}, expected {expected}"


def ask_sum_first(probe: Probe) -> Answer:
    """P2 depends on s + f alone: moving something from f to s changes nothing."""
    _, s, f = probe.inputs()
    shift = probe.tensor(probe.channels, 4, seed=4)
    moved = distance(probe.out(s + shift, f - shift), probe.out(s, f))
    return _verdict(moved <= EXACT), f"moving a tensor from residual to skip changes the output by {moved:.1e}"


def ask_attention_sees_sum(probe: Probe) -> Answer:
    """P2: when only s moves, the mask moves: the output changes by something else than the change of s."""
    _, s, f = probe.inputs()
    shift = probe.tensor(probe.channels, 4, seed=4)
    reaction = distance(probe.out(s + shift, f) - probe.out(s, f), shift)
    return _verdict(reaction > MOVED), f"perturbing the skip moves attention by {reaction:.1e} of the perturbation"


def ask_skip_untouched(probe: Probe) -> Answer:
    """P1 and P3: a change of s passes to the output as it is; in P3 the skip is the raw x."""
    _, s, f = probe.inputs()
    shift = probe.tensor(probe.channels, 4, seed=4)
    moved = distance(probe.out(s + shift, f) - probe.out(s, f), shift)
    raw = distance(probe.out(s, torch.zeros_like(f)), s)
    return _verdict(max(moved, raw) <= EXACT), f"output − skip changes by {max(moved, raw):.1e} when the skip does"


def ask_attention_input(probe: Probe) -> Answer:
    """P1: attention reacts to f. P3: what enters F is not x but its conditioned form."""
    x, s, f = probe.inputs()
    if probe.pattern == "p1":
        reaction = distance(probe.out(s, f) - s, f)
        return _verdict(reaction > MOVED), f"attention moves the residual by {reaction:.1e}"
    entered = probe.run(x)["branch"]
    reaction = distance(entered, x)
    return _verdict(reaction > MOVED), f"attention moves the input of the branch by {reaction:.1e}"


def ask_paths_separate(probe: Probe) -> Answer:
    """P4: out(s, f) = S(s) + R(f), each path with attention of its own."""
    _, s, f = probe.inputs()
    zero = torch.zeros_like(s)
    skip, residual = probe.out(s, zero), probe.out(zero, f)
    mixed = distance(probe.out(s, f), skip + residual)
    reaction = distance(residual, f)
    good = mixed <= EXACT and reaction > MOVED
    if probe.block.skip_attention is not None:
        reaction = min(reaction, distance(skip, s))
        good = good and reaction > MOVED
    return _verdict(good), f"paths mix by {mixed:.1e}; attention moves its path by {reaction:.1e}"


def ask_multiplied(probe: Probe) -> Answer:
    """What is attended to stays 0 where it is 0: a mask multiplies, it does not add."""
    x, s, f = probe.inputs()
    holes = (torch.rand(f.shape, generator=torch.Generator().manual_seed(5)) < 0.25).to(f.dtype)  # noqa: PLR2004
    if probe.pattern == "p1":
        attended, at = probe.out(s, f * (1 - holes)) - s, holes
    elif probe.pattern == "p3":
        at = (torch.rand(x.shape, generator=torch.Generator().manual_seed(5)) < 0.25).to(x.dtype)  # noqa: PLR2004
        attended = probe.run(x * (1 - at))["branch"]
    elif probe.pattern == "p2":
        attended, at = probe.out(s, f * (1 - holes) - s * holes), holes
    else:
        attended, at = probe.out(s * (1 - holes), f * (1 - holes)), holes
    largest = float((attended * at).abs().max())
    return _verdict(largest <= EXACT), f"largest output where the input is 0: {largest:.1e}"


def masks_of(probe: Probe) -> dict[str, Tensor]:
    """The masks of a block at full strength, as output ÷ input of the path that each acts on."""
    x, s, f = probe.inputs()
    zero = torch.zeros_like(f)
    if probe.pattern == "p1":
        return {"residual": (probe.out(s, f) - s) / f}
    if probe.pattern == "p2":
        return {"sum": probe.out(s, f) / (s + f)}
    if probe.pattern == "p3":
        return {"input": probe.run(x)["branch"] / x}
    masks = {"residual": probe.out(zero, f) / f - 1}
    if probe.block.skip_attention is not None:
        masks["skip"] = probe.out(s, zero) / s - 1
    return masks


def ask_mask_range(probe: Probe) -> Answer:
    """Masks lie in (0, 1); of open gates each is in (0, 2), and cbam and coord multiply two."""
    masks = torch.cat([m.flatten() for m in masks_of(probe).values()])
    two = probe.block.fusion.attention in ("cbam", "coord")
    highest = (4.0 if two else 2.0) if probe.block.fusion.gate_init == "open" else 1.0
    low, high = float(masks.min()), float(masks.max())
    good = low >= -MOVED and high <= highest + MOVED
    return _verdict(good), f"values from {low:.3g} to {high:.3g}, allowed 0 to {highest:g}"


def _as_training_starts(block: nn.Module) -> None:
    """Norms inside the masks take the statistics of the batch: a fresh running mean says nothing."""
    for mask in (module for module in block.modules() if isinstance(module, Mask)):
        mask.train()


def ask_gate_opening(probe: Probe) -> Answer:
    """The masks as they start: near 1 where gates are open, neither closed nor saturated elsewhere."""
    set_strength(probe.block, 1.0)
    _as_training_starts(probe.block)
    means = {path: float(mask.median()) for path, mask in masks_of(probe).items()}
    text = ", ".join(f"{path} {mean:.3f}" for path, mean in means.items())
    if probe.block.fusion.gate_init == "open":
        return _verdict(min(means.values()) >= OPEN), f"open gates start at {text}"
    inside = all(1 - OPEN < mean < OPEN for mean in means.values())
    return ("pass" if inside else "warn"), f"textbook gates start at {text}"


def ask_frozen(probe: Probe) -> Answer:
    """With every gate at 1, p1 to p3 are the plain sum at any λ."""
    _, s, f = probe.inputs()
    with gates_fixed(probe.block, 1.0):
        x = probe.tensor(probe.inplanes, 4 * probe.stride, seed=1)
        moved = distance(probe.out(s, f), s + f)
        if probe.pattern == "p3":
            moved = max(moved, distance(probe.run(x)["branch"], x))
    return _verdict(moved <= EXACT), f"with masks frozen at 1 the block differs from the plain one by {moved:.1e}"


def measured_gammas(probe: Probe) -> tuple[float, float]:
    """γ_s and γ_r: what each path is enlarged by when its mask is frozen at 1."""
    _, s, f = probe.inputs()
    zero = torch.zeros_like(f)
    with gates_fixed(probe.block, 1.0):
        skip = float((probe.out(s, zero) / s).median()) - 1
        residual = float((probe.out(zero, f) / f).median()) - 1
    return skip, residual


def ask_gamma_order(probe: Probe) -> Answer:
    """P4: γ_s < γ_r at the start and, where they learn, wherever an optimiser may take them."""
    skip, residual = measured_gammas(probe)
    good, text = skip < residual, f"γ_s = {skip:.4g}, γ_r = {residual:.4g}"
    if probe.block.gamma_skip is not None:
        for pull in (-2.0, 0.5, 2.0):
            nn.init.constant_(probe.block.gamma_skip, pull)
            nn.init.constant_(probe.block.gamma_gap, -30.0)
            low, high = measured_gammas(probe)
            good = good and low < high
        text += "; also while an optimiser pulls them together" if good else f"; pulled together {low:.4g}, {high:.4g}"
    return _verdict(good), text


def ask_stabiliser(probe: Probe) -> Answer:
    """A pattern that touches the skip starts near the plain block: by a small λ or γ, or by open gates."""
    _as_training_starts(probe.block)
    _, s, f = probe.inputs()
    away = float((probe.out(s, f) - (s + f)).norm() / (s + f).norm())
    good = away <= NEAR_PLAIN
    advice = "" if good else "; a small λ or γ, or gate_init: open, would tie it down"
    return ("pass" if good else "warn"), f"starts {away:.1%} away from the plain block{advice}"


ALL, BLENDS = ("p1", "p2", "p3", "p4"), ("p1", "p2", "p3")


@dataclass(frozen=True)
class Question:
    """A line of the checklist that is asked of every block with one of the patterns."""

    name: str
    text: str
    patterns: tuple[str, ...]
    ask: Callable[[Probe], Answer]
    stir: bool = False
    """Whether attention is put at full strength with random weights first."""
    where_shapes_change: bool = False
    """Whether only blocks that change stride or width are asked."""

    def concerns(self, probe: Probe) -> bool:
        """Whether a block is asked."""
        return probe.pattern in self.patterns and (probe.changes_shape or not self.where_shapes_change)


QUESTIONS = (
    Question("shapes", "does every block give the shape of the plain block?", ALL, ask_shape),
    Question("projection", "is the skip projected where shapes change?", ALL, ask_projection, where_shapes_change=True),
    Question("p1-attention", "does attention act on the residual?", ("p1",), ask_attention_input, True),
    Question("p3-attention", "does attention condition the input of the branch?", ("p3",), ask_attention_input, True),
    Question("skip-untouched", "is the skip really untouched?", ("p1", "p3"), ask_skip_untouched, True),
    Question("p2-sum-first", "is the sum formed before attention?", ("p2",), ask_sum_first, True),
    Question("p2-attention", "does attention see the skip in the sum?", ("p2",), ask_attention_sees_sum, True),
    Question("p4-paths", "does each path have attention of its own?", ("p4",), ask_paths_separate, True),
    Question("multiplied", "does attention multiply?", ALL, ask_multiplied, True),
    Question("mask-range", "are the masks in their range?", ALL, ask_mask_range, True),
    Question("frozen-attention", "is the block plain while its masks are frozen at 1?", BLENDS, ask_frozen),
    Question("gate-opening", "do the gates start as asked?", ALL, ask_gate_opening),
    Question("p4-gamma-order", "is γ_s < γ_r?", ("p4",), ask_gamma_order),
    Question("stabiliser", "is a pattern that touches the skip tied down?", ("p2", "p4"), ask_stabiliser),
)

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
        verdict, evidence = _verdict(False), str(error).splitlines()[0]
    else:
        verdict, evidence = _verdict(difference == 0), f"largest difference of logits: {difference:g}"
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
