r"""Which of its shapes at which of their places the support of Simple Shapes shows in a number of images.

A *content* is a kind of shape at one of its places: 550 triangles, 798 squares and 605 pentagons. Of N images k_c hold
the content c; among n of them, drawn without putting back, it is expected to be seen with

.. math::
    S_c = 1 - \binom{N - k_c}{n} \Big/ \binom{N}{n}, \qquad \text{coverage}(n) = \frac1C \sum_c S_c

(rarefaction: Hurlbert 1971), so that pools of different sizes are compared at equal numbers of images, without drawing
any. Its interval is the normal one with the jackknife's standard error, which leaves out one image after the other and
errs to the safe side (Efron & Stein 1981).
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from intermode.errors import InputError
from intermode.evaluation import Estimate, Z
from intermode.targets.shape_oracle import ShapeLabels
from intermode.targets.shape_support import COLUMN, KINDS, places, raster

__all__ = ["contents", "coverage", "coverage_of_data"]

SIZES = np.array([int(np.prod(places(kind))) for kind in KINDS])
"""Contents of each kind."""
WELL_FORMED = ("", "duplicate")
"""What may be wrong with a shape that counts: nothing, or that there is another one of its kind."""


def contents(labels: ShapeLabels) -> np.ndarray:
    """(m, 2) int, each pair once: an image, and the number of a content of the support that it holds.

    A shape counts where the data's own raster fits it, at a place of its column.
    """
    found = set()
    for image, objects in enumerate(labels.objects):
        for one in objects:
            if one.wrong not in WELL_FORMED or raster(one.kind).shape != (one.height, one.width):
                continue
            kind, (down, across) = KINDS.index(one.kind), places(one.kind)
            column = one.column - kind * COLUMN
            if 0 <= one.row < down and 0 <= column < across:
                found.add((image, int(SIZES[:kind].sum()) + one.row * across + column))
    return np.array(sorted(found), dtype=int).reshape(-1, 2)


def coverage(pairs: np.ndarray, images: int, n: int) -> Estimate:
    """The share of all contents that n of the images are expected to hold.

    Args:
        pairs: of :func:`contents`.
        images: how many there are, those that hold nothing included.
        n: at most all but one, since the interval leaves one out.

    Raises:
        InputError: another n.
    """
    if not 1 <= n < images:
        raise InputError(f"n: {n} is outside 1..{images - 1}, all of the images but one")
    held = np.bincount(pairs[:, 1], minlength=SIZES.sum())
    gained = _seen(held, images - 1, n) - _seen(np.maximum(held - 1, 0), images - 1, n)
    lost = np.bincount(pairs[:, 0], weights=gained[pairs[:, 1]], minlength=images)  # without an image
    error = np.sqrt((images - 1) / images * np.square(lost - lost.mean()).sum()) / SIZES.sum()
    value = float(_seen(held, images, n).mean())
    return Estimate(value, max(value - Z * error, 0.0), min(value + Z * error, 1.0), n=images, method="jackknife")


def _seen(held: np.ndarray, images: int, n: int) -> np.ndarray:
    """(C,) the probability that n of so many images show what ``held`` (C,) of them hold."""
    others = images - held
    enough = others >= n
    some = np.where(enough, others, n)
    logs = gammaln(some + 1) - gammaln(some - n + 1) - gammaln(images + 1) + gammaln(images - n + 1)
    return np.where(enough, -np.expm1(logs), 1.0)


def coverage_of_data(presence: float, n: int) -> float:
    """The same of n images of the data, in which a kind is present with that probability, at any place alike."""
    missed = (1 - presence / SIZES) ** n
    return float(1 - (SIZES * missed).sum() / SIZES.sum())
