"""Whether labels have to do with their images: asked once a study, before its first trial, in about a second.

Two looks at some training images, neither of which trains a network: whether the nearest neighbours of an image have
its label, and whether ridge regression on all other images finds it from what patches are in it, wherever they lie
(filters out of random whitened patches: A. Coates, H. Lee and A. Ng, An Analysis of Single-Layer Networks in
Unsupervised Feature Learning, AISTATS 2011). Neighbours are nearly blind to a digit among clutter, patches see less
than they do under noise.

Both are held against labels that are dealt out anew; of each deal the better look counts (the maximum of standardised
statistics of P. Westfall and S. Young, Resampling-Based Multiple Testing, 1993). What decides is measured in
`benchmarks/labels.py`.

Shapes: N images of C channels, H × W pixels, K classes, D features.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from nas.training.data.source import DataSource
from nas.training.summary import LabelCheck

NUM_IMAGES = 1000
"""Training images that are looked at; more of many classes, up to twice as many."""
FEWEST = 200
"""Below, nothing is said: of 100 images of the hardest data set that is measured, meaning was not found in 5 of 12."""
PER_CLASS = 20
"""Images a class, on average, below which nothing is said; nor with fewer beside those of the largest class."""
LARGEST_SIDE = 32
"""Larger images are made smaller."""
NEIGHBOURS = 5
PATCH = 6
"""Side of a patch in pixels; in small images half their side."""
FILTERS = 96
PATCHES = 10_000
"""From which filters and whitening are taken."""
FLATTER = 0.1
"""Share of the mean variance of patches that is added before they are whitened."""
RIDGE = 0.1
"""Penalty, where features have variance 1 and are as many as their mean counts."""
DEALS = 99
LEVEL = 0.02
"""Labels are meaningless where p is above it: by chance, 98 of 100 deals are."""
LARGE_SHARE = 0.5
"""A bound on wrong labels above it says nothing."""


def check_labels(data: DataSource) -> LabelCheck | None:
    """Look at a data set; None where it has too few images. The global generators stay as they are."""
    needed = max(FEWEST, PER_CLASS * data.num_classes)
    images, labels = data.sample(max(NUM_IMAGES, min(needed, 2 * NUM_IMAGES)))
    if len(labels) < needed or len(labels) - int(labels.bincount().max()) < PER_CLASS:
        return None
    return judge(labels.numpy(), looks(images))


def looks(images: Tensor) -> tuple[Tensor, Tensor]:
    """Two matrices (N, N) of images (N, C, H, W): row i says how much each other counts for the label of image i."""
    if max(images.shape[2:]) > LARGEST_SIDE:
        images = F.interpolate(images, size=(LARGEST_SIDE, LARGEST_SIDE), mode="bilinear", antialias=True)
    images = images - images.mean((0, 2, 3), keepdim=True)
    images = images / images.std().clamp_min(1e-6)
    return _neighbours(images), _regression(_features(images))


def judge(labels: NDArray[np.int64], matrices: tuple[Tensor, Tensor]) -> LabelCheck:
    """What the two looks say of labels (N,)."""
    names, own = np.unique(labels, return_inverse=True)
    counts = np.bincount(own)
    N, K = len(labels), len(names)
    classes = torch.from_numpy(own)
    one_hot = F.one_hot(classes, K).float()
    shares = one_hot.mean(0)
    centred = (one_hot - shares) / shares.sqrt()  # rare classes count as much as frequent ones
    random = np.random.default_rng(0)
    orders = [torch.arange(N), *(torch.from_numpy(random.permutation(N)) for _ in range(DEALS))]
    values = torch.tensor([[_fit(look, centred[order]) for look in matrices] for order in orders], dtype=torch.float64)
    dealt = values[1:]
    best = ((values - dealt.mean(0)) / dealt.std(0).clamp_min(1e-12)).amax(1)
    p = (1 + int((best[1:] >= best[0]).sum())) / (1 + DEALS)
    neighbours, regression = matrices
    agreement = float((neighbours @ one_hot).gather(1, classes[:, None]).mean())
    told = float(((regression @ centred).argmax(1) == classes).float().mean())
    meaningless = p > LEVEL
    bound = min(1 - told, _wrong(agreement, num_classes=K))
    return LabelCheck(
        num_images=N,
        agreement=agreement,
        chance=float((counts * (counts - 1)).sum() / (N * (N - 1))),
        told=told,
        p=p,
        meaningless=meaningless,
        wrong_at_most=None if meaningless or bound > LARGE_SHARE else bound,
    )


def _fit(look: Tensor, classes: Tensor) -> float:
    """How well a look (N, N) tells the classes (N, K)."""
    return float(((look @ classes) * classes).sum())


def _wrong(agreement: float, *, num_classes: int) -> float:
    """Share of labels that are wrong, at random, where neighbours are of one class and so many have the same label."""
    each = 1 / (num_classes - 1)  # agreement = q² + (1 - q)²·each, where a share q is right
    root = max(0.0, each**2 - (1 + each) * (each - agreement))
    return 1 - (each + math.sqrt(root)) / (1 + each)


def _neighbours(images: Tensor) -> Tensor:
    """Equal weights on the nearest other images, in pixels."""
    N, count = len(images), min(NEIGHBOURS, len(images) - 1)
    index = NearestNeighbors(n_neighbors=count).fit(images.flatten(1).numpy()).kneighbors(return_distance=False)
    return torch.zeros(N, N).scatter_(1, torch.from_numpy(index), 1 / count)


def _features(images: Tensor) -> Tensor:
    """How strongly and how often each filter answers, (N, D), standardised."""
    random = torch.Generator().manual_seed(0)
    N, C, H, W = images.shape
    side = max(1, min(PATCH, min(H, W) // 2))
    which = torch.randint(N, (PATCHES,), generator=random)
    top, left = (torch.randint(extent - side + 1, (PATCHES,), generator=random) for extent in (H, W))
    patches = images.unfold(2, side, 1).unfold(3, side, 1)[which, :, top, left].flatten(1)
    mean = patches.mean(0)
    whitening = _whitening(patches - mean)
    filters = F.normalize((patches - mean)[:FILTERS] @ whitening) @ whitening
    kernels, bias = filters.reshape(-1, C, side, side), -(filters @ mean)
    rows = []
    for part in torch.split(images, 128):
        answers = F.conv2d(part, kernels, bias).flatten(2)
        often = answers.relu().mean(2), (-answers).relu().mean(2)
        rows.append(torch.cat([answers.amax(2), -answers.amin(2), *often], 1))
    features = torch.cat(rows)
    return (features - features.mean(0)) / features.std(0).clamp_min(1e-6)


def _whitening(patches: Tensor) -> Tensor:
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    scale = (variances.clamp_min(0) + FLATTER * variances.mean() + 1e-6).rsqrt()
    whitening: Tensor = (directions * scale) @ directions.T
    return whitening


def _regression(features: Tensor) -> Tensor:
    """Ridge regression of each image's label on all others': the hat matrix, an image left out at a time."""
    N, D = features.shape
    inner = features.T @ features / D + RIDGE * torch.eye(D)
    hat = features @ torch.linalg.solve(inner, features.T) / D + 1 / N
    own = hat.diagonal().clone()
    left_out: Tensor = (hat / (1 - own).clamp_min(1e-3)[:, None]).fill_diagonal_(0)
    return left_out
