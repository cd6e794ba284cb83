r"""What a sample lies between: its nearest modes, or images, and the blend of two that comes closest to it.

Of a sample x and two anchors a and b, the blend :math:`(1 - w)\, a + w\, b` nearest to x has, by projection,

.. math::
    w = \operatorname{clip}\Bigl(\frac{\langle x - a,\; b - a\rangle}{\lVert b - a\rVert^2},\; 0,\; 1\Bigr)

and leaves :math:`\lVert x - (1 - w)\, a - w\, b \rVert`. The first anchor is the nearest one. The second is, of a known
mixture, the other end of the segment between two modes on which the mixture says that x lies, and else the next nearest
mode; of training data the one of the next 15 whose blend with the first comes closest; of shapes, whose support is
known, the same among the images that differ from the first in one column.

Distances are lengths of samples of a few numbers, and of images root mean squares over the pixels, from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intermode.targets.gaussian import GaussianMixture
from intermode.targets.shape_support import around
from intermode.targets.shapes import Shapes

__all__ = ["Blend", "between_modes", "between_samples", "between_shapes", "blend_of"]

NEXT = 15
"""Anchors beside the nearest one that are tried."""


@dataclass(frozen=True)
class Blend:
    """The blend of two anchors that is nearest to a sample.

    Attributes:
        names: of the two anchors.
        anchors: (2, *shape) float64.
        distances: of the sample from each.
        weight: of the second, 0..1.
        residual: what the blend leaves, a distance.
    """

    names: tuple[str, str]
    anchors: np.ndarray
    distances: tuple[float, float]
    weight: float
    residual: float

    @property
    def mix(self) -> np.ndarray:
        """(*shape) the blend itself."""
        mixed: np.ndarray = (1 - self.weight) * self.anchors[0] + self.weight * self.anchors[1]
        return mixed


def distance(x: np.ndarray, y: np.ndarray) -> float:
    """Length of the difference of two samples (d,); of images its root mean square."""
    difference = np.asarray(x, np.float64) - y
    return float(np.sqrt(np.mean(difference**2)) if difference.ndim > 1 else np.linalg.norm(difference))


def blend_of(x: np.ndarray, anchors: np.ndarray, names: Sequence[str]) -> Blend:
    """The first anchor and that of the others whose blend with it comes closest; of equally good ones the earliest.

    Args:
        x: (*shape) the sample.
        anchors: (m, *shape), two or more.
        names: of these.
    """
    flat, points = np.asarray(x, np.float64).ravel(), np.asarray(anchors, np.float64).reshape(len(anchors), -1)
    offset, along = flat - points[0], points[1:] - points[0]
    square = (along**2).sum(1)
    weights = np.where(square > 0, (along @ offset / np.where(square > 0, square, 1)).clip(0, 1), 0.0)
    left = np.linalg.norm(offset - weights[:, None] * along, axis=1)
    # rounding must not choose among anchors that do equally well
    best = int(np.flatnonzero(left <= left.min() + 1e-6 * float(np.linalg.norm(offset)))[0])
    pair = np.asarray(anchors, np.float64)[[0, best + 1]]
    weight = float(weights[best])
    mixed = (1 - weight) * pair[0] + weight * pair[1]
    return Blend(
        (names[0], names[best + 1]), pair, (distance(x, pair[0]), distance(x, pair[1])), weight, distance(x, mixed)
    )


def between_modes(x: np.ndarray, target: GaussianMixture) -> Blend | None:
    """Of two modes of a mixture; None if it has only one."""
    order = np.argsort(np.linalg.norm((x - target.means) / target.sigma[:, None], axis=1), kind="stable")
    if len(order) < 2:
        return None
    ends = target.label(x[None]).between[0]
    if ends[0] >= 0:
        order = np.array(sorted(ends, key=lambda mode: int(np.flatnonzero(order == mode)[0])))
    pair = order[:2]
    return blend_of(x, target.means[pair], [mode_name(target.means[k]) for k in pair])


def mode_name(mean: np.ndarray) -> str:
    """A mode by its place."""
    place = ", ".join(f"{value:.3g}" for value in mean + 0.0)
    return f"the mode at {place}" if len(mean) == 1 else f"the mode at ({place})"


def between_samples(x: np.ndarray, data: np.ndarray, names: Sequence[str]) -> Blend:
    """Of two samples (m, *shape) of training data."""
    square = ((data.reshape(len(data), -1) - np.asarray(x, data.dtype).ravel()) ** 2).sum(1)
    near = np.argsort(square, kind="stable")[: NEXT + 1]
    return blend_of(x, data[near], [names[k] for k in near])


def between_shapes(x: np.ndarray, target: Shapes) -> Blend:
    """Of the nearest image (1, 64, 64) of the support of shapes and one that differs from it in one column."""
    found: Any = target.nearest(x[None].clip(-1, 1))
    own = found.present[0], found.row[0], found.column[0]
    changed, words = around((x[0].clip(-1, 1) + 1) / 2, *own, keep_blank=target.keep_blank)
    anchors = np.concatenate([found.render(), changed]) / 127.5 - 1.0
    return blend_of(x, anchors[:, None], ["the nearest image of the data", *(f"the same with {w}" for w in words)])
