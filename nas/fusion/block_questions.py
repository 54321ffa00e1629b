"""The questions of the checklist that are asked of one block: each gives a verdict and its evidence.

s, f, out: (B, C, H, W); x: input of the block, (B, C_in, H, W), as in `nas.fusion.probe`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from nas.fusion.masks import Mask
from nas.fusion.probe import Probe, distance, gates_fixed, set_strength

Verdict = Literal["pass", "warn", "fail"]
EXACT = 1e-9
"""Largest relative difference in float64 of two computations of one value."""
MOVED = 1e-6
"""Smallest relative difference that counts as a reaction."""
NEAR_PLAIN = 0.2
"""A block that touches the skip is tied down where it starts within this relative distance of the plain block."""
OPEN = 0.95
"""Least mean of an open mask at the start."""
Answer = tuple[Verdict, str]


def pass_if(good: bool) -> Verdict:
    """The verdict of a question that nothing but a yes passes."""
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
    return pass_if(moved <= EXACT), f"with attention off, the sum differs by {moved:.1e} from projection + residual"


def ask_shape(probe: Probe) -> Answer:
    """s, f and out have one shape: that of the plain block."""
    x, s, _ = probe.inputs()
    got, expected = tuple(probe.run(x)["out"].shape), tuple(s.shape)
    return pass_if(got == expected), f"output {got}, expected {expected}"


def ask_sum_first(probe: Probe) -> Answer:
    """P2 depends on s + f alone: moving something from f to s changes nothing."""
    _, s, f = probe.inputs()
    shift = probe.tensor(probe.channels, 4, seed=4)
    moved = distance(probe.out(s + shift, f - shift), probe.out(s, f))
    return pass_if(moved <= EXACT), f"moving a tensor from residual to skip changes the output by {moved:.1e}"


def ask_attention_sees_sum(probe: Probe) -> Answer:
    """P2: when only s moves, the mask moves: the output changes by something else than the change of s."""
    _, s, f = probe.inputs()
    shift = probe.tensor(probe.channels, 4, seed=4)
    reaction = distance(probe.out(s + shift, f) - probe.out(s, f), shift)
    return pass_if(reaction > MOVED), f"perturbing the skip moves attention by {reaction:.1e} of the perturbation"


def ask_skip_untouched(probe: Probe) -> Answer:
    """P1 and P3: a change of s passes to the output as it is; in P3 the skip is the raw x."""
    _, s, f = probe.inputs()
    shift = probe.tensor(probe.channels, 4, seed=4)
    moved = distance(probe.out(s + shift, f) - probe.out(s, f), shift)
    raw = distance(probe.out(s, torch.zeros_like(f)), s)
    return pass_if(max(moved, raw) <= EXACT), f"output − skip changes by {max(moved, raw):.1e} when the skip does"


def ask_attention_input(probe: Probe) -> Answer:
    """P1: attention reacts to f. P3: what enters F is not x but its conditioned form."""
    x, s, f = probe.inputs()
    if probe.pattern == "p1":
        reaction = distance(probe.out(s, f) - s, f)
        return pass_if(reaction > MOVED), f"attention moves the residual by {reaction:.1e}"
    entered = probe.run(x)["branch"]
    reaction = distance(entered, x)
    return pass_if(reaction > MOVED), f"attention moves the input of the branch by {reaction:.1e}"


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
    return pass_if(good), f"paths mix by {mixed:.1e}; attention moves its path by {reaction:.1e}"


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
    return pass_if(largest <= EXACT), f"largest output where the input is 0: {largest:.1e}"


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
    return pass_if(good), f"values from {low:.3g} to {high:.3g}, allowed 0 to {highest:g}"


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
        return pass_if(min(means.values()) >= OPEN), f"open gates start at {text}"
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
    return pass_if(moved <= EXACT), f"with masks frozen at 1 the block differs from the plain one by {moved:.1e}"


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
    return pass_if(good), text


def ask_stabiliser(probe: Probe) -> Answer:
    """A pattern that touches the skip starts near the plain block: by a small λ or γ, or by open gates."""
    _as_training_starts(probe.block)
    _, s, f = probe.inputs()
    away = float((probe.out(s, f) - (s + f)).norm() / (s + f).norm())
    good = away <= NEAR_PLAIN
    advice = "" if good else "; a small λ or γ, or gate_init: open, would tie it down"
    return ("pass" if good else "warn"), f"starts {away:.1%} away from the plain block{advice}"


ALL = ("p1", "p2", "p3", "p4")
BLENDS = ("p1", "p2", "p3")


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
