r"""How far generated samples lie from real ones as distributions, in the feature space of a network.

* Fréchet distance (FID; Heusel et al. 2017) of the Gaussians with the same means and covariances,

  .. math::
      \lVert \mu_r - \mu_g \rVert^2 + \mathrm{tr}\bigl(\Sigma_r + \Sigma_g - 2 (\Sigma_r \Sigma_g)^{1/2}\bigr),

  zero for equal moments. It rises as samples get fewer: compare values at equal numbers only.
* precision and recall (Kynkäänniemi et al. 2019), with closed balls B_k(x) around each sample that reach to its
  k-th nearest neighbour among its own kind: precision is the share of generated samples in some real ball, recall
  the share of real samples in some generated ball.
* density and coverage (Naeem et al. 2020), the same with less weight on outliers: density is 1/k of the mean number
  of real balls that a generated sample lies in (1 for equal distributions, and it may exceed 1), coverage the
  share of real balls with a generated sample in them.

The Fréchet distance is torchmetrics'. The published code of the others, prdc, holds three n × n matrices of
distances; here scikit-learn gives the distances in blocks of rows, and nothing larger than a block is kept.

Intervals are 95 % and speak of finite samples alone; how much trainings differ is seen across seeds
(:func:`intermode.evaluation.over_seeds`). The Fréchet distance has a grouped jackknife over the generated samples,
the real ones being the reference that they are all compared with: a bootstrap would repeat samples, shrink their
covariance and shift the value that it is to surround, and leaving out a block does neither. Each of the others is
a mean over samples of one kind given the balls of the other: Wilson's interval for shares, Student's for density.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from intermode.errors import InputError
from intermode.evaluation import Estimate, share
from intermode.noise import draws

__all__ = ["Neighbourhoods", "frechet", "neighbourhoods"]

BLOCK_MIB = 256
"""Of distances at a time."""

Features = Tensor | np.ndarray


class _AsTheyAre(nn.Module):
    """What torchmetrics takes for an extractor: the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet(real: Features, generated: Features, *, blocks: int = 20, seed: int = 0) -> Estimate:
    """The Fréchet distance with its interval, in float64.

    Args:
        real: (n, d) features.
        generated: (m, d) features.
        blocks: of the jackknife; generated samples are dealt to them by chance, since their order may follow
            their classes.
        seed: of that.

    Raises:
        InputError: features that do not fit each other or are not finite, fewer than 2 real samples, fewer than
            2 blocks, or fewer than 2 generated samples for each.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # imported here: it takes seconds

    real, generated = _checked(real, generated)
    if len(real) < 2:
        raise InputError("real: 1 sample has no covariance; need at least 2")
    if blocks < 2 or len(generated) < 2 * blocks:
        raise InputError(f"blocks: {blocks} of {len(generated)} samples; need at least 2, each of at least 2 samples")
    metric = FrechetInceptionDistance(_AsTheyAre(real.shape[1]), reset_real_features=False)
    metric.update(torch.from_numpy(real), real=True)

    def distance(samples: np.ndarray) -> float:
        metric.reset()
        metric.update(torch.from_numpy(samples), real=False)
        return max(float(metric.compute()), 0.0)  # rounding alone goes under zero

    value = distance(generated)
    block = draws(seed, "bootstrap").permutation(len(generated)) % blocks
    without = [distance(generated[block != b]) for b in range(blocks)]
    error = np.sqrt((blocks - 1) * np.var(without))
    reach = float(stats.t.ppf(0.975, blocks - 1) * error)
    return Estimate(value, max(value - reach, 0.0), value + reach, n=len(generated), method="jackknife")


@dataclass(frozen=True)
class Neighbourhoods:
    """How generated and real samples lie within each other's neighbourhoods, each with its 95 % interval.

    Attributes:
        precision: 0..1, share of generated samples that lie where real ones do.
        recall: 0..1, share of real samples that lie where generated ones do.
        density: at least 0 and 1 for equal distributions, how densely the former are surrounded by real ones.
        coverage: 0..1, share of real samples with a generated one in their neighbourhood.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def neighbourhoods(real: Features, generated: Features, k: int = 5) -> Neighbourhoods:
    """Precision, recall, density and coverage, in float64 and in memory that grows as n + m.

    Args:
        real: (n, d) features.
        generated: (m, d) features.
        k: the neighbour that a ball reaches to. Naeem et al. take 5 for all four; Kynkäänniemi et al. take 3.

    Raises:
        InputError: features that do not fit each other or are not finite, k < 1, or fewer than k + 1 samples.
    """
    real, generated = _checked(real, generated)
    if not 1 <= k < min(len(real), len(generated)):
        raise InputError(
            f"k: {k} neighbours among {len(real)} real and {len(generated)} generated samples; must be at least 1 "
            "and less than either"
        )
    real_reach, generated_reach = _reach(real, k), _reach(generated, k)
    balls = np.empty(len(generated), np.int64)  # real balls around each generated sample
    covered, recalled = np.zeros(len(real), bool), np.zeros(len(real), bool)
    row = 0
    for distances in _blocks(generated, real):
        rows = slice(row, row := row + len(distances))
        inside = distances <= real_reach
        balls[rows] = inside.sum(1)
        covered |= inside.any(0)
        recalled |= (distances <= generated_reach[rows, None]).any(0)
    n, m = len(real), len(generated)
    mean = float(balls.mean()) / k
    reach = float(stats.t.ppf(0.975, m - 1) * balls.std(ddof=1) / np.sqrt(m)) / k
    return Neighbourhoods(
        precision=share(int((balls > 0).sum()), m),
        recall=share(int(recalled.sum()), n),
        density=Estimate(mean, max(mean - reach, 0.0), mean + reach, n=m, method="Student"),
        coverage=share(int(covered.sum()), n),
    )


def _reach(x: np.ndarray, k: int) -> np.ndarray:
    """(n,) distance of each row of (n, d) to its k-th nearest other row."""
    reaches = []
    for distances in _blocks(x, x):
        distances.partition(k, axis=1)  # the nearest is the row itself
        reaches.append(distances[:, k].copy())
    return np.concatenate(reaches)


def _blocks(a: np.ndarray, b: np.ndarray) -> Any:
    """Euclidean distances (·, m) of consecutive rows of a (n, d) to all rows of b (m, d)."""
    from sklearn.metrics import pairwise_distances_chunked

    return pairwise_distances_chunked(a, b, metric="euclidean", working_memory=BLOCK_MIB)


def _checked(real: Features, generated: Features) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays (n, d) and (m, d)."""
    arrays = []
    for name, features in (("real", real), ("generated", generated)):
        values = features.detach().cpu().numpy() if isinstance(features, Tensor) else features
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 2 or array.size == 0:
            raise InputError(f"{name}: features have shape {array.shape}; must be (n, d) with n and d at least 1")
        if not np.isfinite(array).all():
            rows = np.flatnonzero(~np.isfinite(array).all(1))
            raise InputError(f"{name}: features of {len(rows):,} samples are not finite, the first at row {rows[0]}")
        arrays.append(array)
    if arrays[0].shape[1] != arrays[1].shape[1]:
        raise InputError(f"features: {arrays[0].shape[1]} of each real sample, {arrays[1].shape[1]} of a generated one")
    return arrays[0], arrays[1]
