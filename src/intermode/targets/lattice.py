r"""The paper's 2-D targets: 25 Gaussians on a square lattice, axis-aligned or turned by 45° (section 4.2).

Modes lie on :math:`\{-2, \dots, 2\}^2 \times 2` with σ = 0.05; everything is divided by
:math:`\sqrt{0.05^2 + 8} \approx 2.829`, the standard deviation of a coordinate, which leaves a spacing of
0.7070 and σ = 0.01768. The diamond is the same lattice turned, so spacing and σ are the grid's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from intermode.targets.gaussian import GaussianMixture
from intermode.values import as_whole

__all__ = ["LATTICES", "diamond", "grid", "near_neighbours", "neighbours"]

STEP, SIGMA = 2.0, 0.05


def _lattice(angle: float, side: int, beyond: float) -> GaussianMixture:
    side = as_whole("side", side, 2)
    axis = STEP * (np.arange(side) - (side - 1) / 2)
    modes = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    scale = math.sqrt(SIGMA**2 + np.mean(axis**2))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return GaussianMixture(modes @ turn.T / scale, SIGMA / scale, beyond=beyond)


def grid(side: int = 5, *, beyond: float = 6.0) -> GaussianMixture:
    """The axis-aligned lattice of side² modes, coordinates of variance 1; mode side·i + j lies at column i, row j.

    Raises:
        InputError: fewer than two modes along a side.
    """
    return _lattice(0.0, side, beyond)


def diamond(side: int = 5, *, beyond: float = 6.0) -> GaussianMixture:
    """The lattice turned by 45°: second-nearest neighbours lie along the axes."""
    return _lattice(math.pi / 4, side, beyond)


LATTICES = {"grid": grid, "diamond": diamond}


def neighbours(target: GaussianMixture, order: int) -> np.ndarray:
    """(P, 2) the pairs of modes at the smallest (``order`` 0) or second-smallest (1, the diagonals) distance."""
    pairs = target.pairs
    lengths = np.linalg.norm(target.means[pairs[:, 0]] - target.means[pairs[:, 1]], axis=1)
    return pairs[np.isclose(lengths, np.unique(lengths.round(9))[order])]


def near_neighbours(
    target: GaussianMixture, x: np.ndarray, within: float = 5.0, orders: Sequence[int] = (0, 1)
) -> np.ndarray:
    """Between which kind of neighbours samples lie.

    Args:
        x: (n, 2), usually the off-support samples: near a mode segments of all kinds meet.
        within: distance to the segment in σ.
        orders: see :func:`neighbours`.

    Returns:
        (n,) the order whose segment is closest, where one is within reach; else -1.
    """
    reach = within * float(target.sigma.max())
    kind, best = np.full(len(x), -1), np.full(len(x), np.inf)
    for order in orders:
        for pair in neighbours(target, order):
            distance = target.segment_distance(x, pair)
            closer = (distance <= reach) & (distance < best)
            kind[closer], best[closer] = order, distance[closer]
    return kind
