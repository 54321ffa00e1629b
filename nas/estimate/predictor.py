"""Predicts what a full training gives, from the full trainings of a calibration.

Every choice of an architecture adds its part to the accuracy: ridge regression on indicator variables (A. Hoerl and
R. Kennard, Ridge regression, 1970), the simplest of the model-based predictors that C. White et al. compare in How
powerful are performance predictors in neural architecture search? (2021). Needs no torch.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture

Values = NDArray[np.float64]

PENALTIES = np.geomspace(0.03, 300, 25)
"""Of squared effects, against squared errors; the one with the least leave-one-out error is taken."""
FOLDS = 10
"""Parts of which each is predicted from the others, where predictions are held against trainings."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """An additive model of the choices of a space."""

    base: float
    """Accuracy without any choice that has an effect."""
    effects: Mapping[str, float]
    """What a choice such as `stage 4 pattern p1` adds to it; one that no training had adds nothing."""
    num_trainings: int
    """Full trainings that it was fitted to."""

    def predict(self, architecture: Architecture) -> float:
        """Validation accuracy after a full training."""
        return self.base + sum(self.effects.get(choice, 0.0) for choice in choices(architecture))

    def by_stage(self, architecture: Architecture) -> tuple[float, ...]:
        """What the fusion of each stage adds to the accuracy, against a plain stage.

        Choices that come together, as a pattern and its attention may, share one effect in `effects`: only their
        sum can be read.
        """
        stages = enumerate(_by_stage(architecture.canonical()), 1)
        return tuple(
            sum(self.effects.get(choice, 0.0) for choice in held)
            - self.effects.get(f"stage {number} pattern none", 0.0)
            for number, held in stages
        )

    @classmethod
    def fit(cls, architectures: Sequence[Architecture], truth: Values) -> Self:
        """Fit to ``truth`` (A, S): final accuracies of A architectures, each trained with S seeds."""
        held = [choices(architecture) for architecture in architectures]
        names = sorted(set().union(*held))
        x = np.array([[name in has for name in names] for has in held], np.float64)
        y = truth.mean(1)
        centred = x - x.mean(0)
        weights = _ridge(centred, y - y.mean())
        return cls(
            base=float(y.mean() - x.mean(0) @ weights),
            effects=dict(zip(names, weights.tolist(), strict=True)),
            num_trainings=truth.size,
        )


def choices(architecture: Architecture) -> tuple[str, ...]:
    """The answers that make up an architecture, in its canonical form; always in one order, as sums depend on it."""
    canonical = architecture.canonical()
    return (f"norm {canonical.norm}", *itertools.chain.from_iterable(_by_stage(canonical)))


def _by_stage(canonical: Architecture) -> list[list[str]]:
    """What each stage holds; of a stage that is fused in part, which blocks are plain."""
    found = []
    for number, (stage, num_blocks) in enumerate(
        zip(canonical.stages, canonical.backbone.shape.layers, strict=True), 1
    ):
        blocks = range(num_blocks)
        fields = stage.to_dict()
        fused = fields.pop("blocks", blocks)
        held = [f"{name} {value}" for name, value in fields.items()]
        held += [f"block {block} plain" for block in blocks if block not in fused]
        found.append([f"stage {number} {choice}" for choice in held])
    return found


def _ridge(x: Values, y: Values) -> Values:
    """Weights (F,) for centred ``x`` (A, F) and ``y`` (A,); leave-one-out errors in closed form choose the penalty."""
    values, vectors = np.linalg.eigh(x @ x.T)
    values, along = values.clip(0), vectors.T @ y

    def left_out_error(penalty: float) -> float:
        kept = values / (values + penalty)
        leverage = (vectors**2) @ kept + 1 / len(y)  # the mean is fitted too
        errors = (y - vectors @ (kept * along)) / (1 - leverage).clip(1e-9)
        return float((errors**2).mean())

    penalty = min(PENALTIES, key=left_out_error)
    return np.asarray(x.T @ (vectors @ (along / (values + penalty))))


def held_out(architectures: Sequence[Architecture], truth: Values) -> Values:
    """Predictions (A,) of every architecture by a model of the others', fitted to their rows of ``truth`` (A, S).

    `FOLDS` parts are left out in turn. Only what the choices add is told: the mean of the others is low where an
    architecture is good, which would count against every model. What remains of that makes a model of noise correlate
    with it by -0.1, not by 0.
    """
    A = len(architectures)
    scores = np.zeros(A)
    for fold in range(min(FOLDS, A)):
        others = [i for i in range(A) if i % FOLDS != fold]
        model = Predictor.fit([architectures[i] for i in others], truth[others])
        predicted = np.array([model.predict(architecture) for architecture in architectures])
        scores[fold::FOLDS] = (predicted - predicted.mean())[fold::FOLDS]
    return scores
