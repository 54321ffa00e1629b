"""Whether networks differ: paired comparisons over seeds and test images, with what it would take to see more.

Shapes: A networks, S seeds, n test images. ``scores`` is (A, S): accuracies, where every column was trained with one
seed and therefore in one order of the data. ``correct`` is (A, S, n): which images were classified correctly.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from nas.statistics import LEVEL

Values = NDArray[np.float64]
Correct = NDArray[np.bool_]
ALIKE = 0.25
"""Smallest p-value of Bartlett's test at which networks count as spreading alike over seeds: doubts count against."""
MANY = 1e9
"""Degrees of freedom at which Student's t is the normal distribution."""
POWER = 0.8
"""Chance with which `seeds_needed` would find a difference."""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A network's mean accuracy over seeds."""

    value: float
    low: float
    high: float
    """95 % interval of Student's t over the seeds, on these test images."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What one network has above another, on average over seeds.

    Test and interval are of one family (Bonferroni): a difference is `found` where its interval leaves out 0.
    """

    value: float
    """Of accuracies: 0.01 is a point."""
    low: float
    high: float
    """Intervals of all compared differences hold together in 95 % of studies."""
    p_value: float
    """Two-sided, of this difference alone."""
    p_adjusted: float
    """Times the number of comparisons, at most 1."""
    seeds_needed: int | None
    """Seeds with which a difference of this size would be found with `POWER`; None where no number is known to do."""

    @property
    def found(self) -> bool:
        """Whether there is a difference."""
        return self.p_adjusted <= LEVEL


def mean_of(scores: Values) -> Mean:
    """Mean and interval of (S,)."""
    S = len(scores)
    half = float(scipy.special.stdtrit(S - 1, 1 - LEVEL / 2) * scores.std(ddof=1) / math.sqrt(S))
    return Mean(value=float(scores.mean()), low=float(scores.mean()) - half, high=float(scores.mean()) + half)


def image_variance(ours: Correct, theirs: Correct) -> float:
    """Variance of the mean difference of two (S, n) that comes from the choice of test images alone.

    The mean square between images less that of the interaction of images and seeds, over S·n: the component
    of a layout with crossed random seeds and images (Cornfield and Tukey 1956).
    """
    d = ours.astype(np.float64) - theirs
    S, n = d.shape
    by_image, by_seed = d.mean(0), d.mean(1, keepdims=True)
    between = S * by_image.var(ddof=1)
    interaction = ((d - by_image - by_seed + d.mean()) ** 2).sum() / ((S - 1) * (n - 1))
    return float(max(0.0, between - interaction) / (S * n))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A mean paired difference and how well it is known."""

    value: float
    variance: float
    """Of the difference of one seed."""
    num_networks: int
    """Networks whose spread over seeds gives that variance: the two, or all."""
    from_images: float
    """`image_variance`."""
    num_seeds: int

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return math.sqrt(self.variance / self.num_seeds + self.from_images)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the error (Satterthwaite 1946); those of many images count as infinite."""
        from_seeds = self.variance / self.num_seeds
        of_variance = (self.num_networks - 1) * (self.num_seeds - 1)
        return min(MANY, of_variance * (self.error**2 / from_seeds) ** 2) if from_seeds else MANY

    @property
    def p_value(self) -> float:
        """Two-sided; 1 where nothing varies, because a spread that was not seen is unknown."""
        return float(2 * scipy.special.stdtr(self.freedom, -abs(self.value) / self.error)) if self.error else 1.0

    def critical(self, count: int) -> float:
        """Standard errors beyond which one of ``count`` differences is claimed, and to which its interval reaches."""
        return float(scipy.special.stdtrit(self.freedom, 1 - LEVEL / (2 * count)))

    def power(self, count: int) -> float:
        """Chance that as many seeds find the difference as one of ``count``, were value and variances the truth.

        Student's t is then noncentral: the chance is that of its upper tail.
        """
        missed = float(scipy.special.nctdtr(self.freedom, abs(self.value) / self.error, self.critical(count)))
        return 1.0 if math.isnan(missed) else 1 - missed  # SciPy has no number for what is below about 1e-230

    def difference(self, count: int) -> Difference:
        """As one of ``count`` comparisons."""
        half = self.critical(count) * self.error
        low, high = (self.value - half, self.value + half) if self.error else (-1.0, 1.0)  # all that accuracies allow
        return Difference(
            value=self.value,
            low=low,
            high=high,
            p_value=self.p_value,
            p_adjusted=min(1.0, count * self.p_value),
            seeds_needed=seeds_needed(self, count),
        )


def bartlett(rows: Values) -> float:
    """The p-value of equal variances of the rows of (A, S) (M. S. Bartlett 1937); 0 where one does not vary."""
    A, S = rows.shape
    variances = rows.var(1, ddof=1)
    if variances.min() <= 0:
        return 0.0
    apart = (S - 1) * (A * math.log(variances.mean()) - np.log(variances).sum())
    return float(scipy.special.chdtrc(A - 1, apart / (1 + (A + 1) / (3 * A * (S - 1)))))


def differences(
    scores: Values, reference: int, compared: Sequence[int], image_variances: Sequence[float] | None = None
) -> tuple[Difference, ...]:
    """Compare networks with ``reference``: one difference for each of ``compared``, indices of (A, S).

    Student's t of the mean paired difference. Its variance is that over seeds plus that over test images, so that
    what is claimed holds for other seeds and for other images. The variance over seeds is the residual of the
    layout network + seed of all networks (randomised blocks, as in Dunnett's test). Where Bartlett's test says that
    networks spread differently, it is that of the two networks alone: one that fails with one seed of five must
    not hide all others.

    Args:
        image_variances: `image_variance` of each comparison; None where the images are taken as all there are.
    """
    A, S = scores.shape
    residual = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    alike = bartlett(residual) >= ALIKE
    pooled = 2 * float((residual**2).sum()) / ((A - 1) * (S - 1))
    found = []
    for a, from_images in zip(compared, image_variances or (0.0,) * len(compared), strict=True):
        paired = scores[a] - scores[reference]
        comparison = Comparison(
            value=float(paired.mean()),
            variance=pooled if alike else float(paired.var(ddof=1)),
            num_networks=A if alike else 2,
            from_images=from_images,
            num_seeds=S,
        )
        found.append(comparison)
    return tuple(comparison.difference(len(found)) for comparison in found)


def seeds_needed(comparison: Comparison, count: int) -> int | None:
    """The least number of seeds that finds a difference like this one with `POWER`, as one of ``count``; at least 2.

    Value and variances are taken as they were seen; degrees of freedom grow with the seeds as those of the test do.
    Where a difference was not found, it is more than the seeds that it was seen with. None where the value is 0,
    where nothing varied, or where no number of seeds does, because the test images are too few.
    """
    if comparison.value == 0 or not comparison.error:
        return None

    def enough(num_seeds: int) -> bool:
        return replace(comparison, num_seeds=num_seeds).power(count) >= POWER

    most = 2
    while not enough(most):
        if most >= MANY:
            return None
        most *= 2
    return bisect_left(range(most), True, lo=2, key=enough)
