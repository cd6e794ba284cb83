r"""The paper's 2-D targets: 25 Gaussians on a square lattice, axis-aligned or turned by 45° (section 4.2).

Modes lie on :math:`\{-2, \dots, 2\}^2 \times 2` with σ = 0.05; everything is divided by
:math:`\sqrt{0.05^2 + 8} \approx 2.829`, the standard deviation of a coordinate, which leaves a spacing of
0.7071 and σ = 0.01768. The diamond is the same lattice turned, so spacing and σ are the grid's.
"""

from __future__ import annotations

import math

import numpy as np

from intermode.targets.gaussian import GaussianMixture

__all__ = ["diamond", "grid"]

SIDE, STEP, SIGMA = 5, 2.0, 0.05


def _lattice(angle: float, beyond: float) -> GaussianMixture:
    axis = STEP * (np.arange(SIDE) - (SIDE - 1) / 2)
    modes = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    scale = math.sqrt(SIGMA**2 + np.mean(axis**2))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    count = len(modes)
    return GaussianMixture(modes @ turn.T / scale, np.full(count, SIGMA / scale), np.full(count, 1 / count), beyond)


def grid(*, beyond: float = 6.0) -> GaussianMixture:
    """The axis-aligned 5 by 5 lattice; mode 5 i + j lies at column i, row j."""
    return _lattice(0.0, beyond)


def diamond(*, beyond: float = 6.0) -> GaussianMixture:
    """The lattice turned by 45°: second-nearest neighbours lie along the axes."""
    return _lattice(math.pi / 4, beyond)
