r"""Drawn digits: a stand-in for MNIST where it is not at hand.

Each class is a few strokes, lines :math:`s_k` in the unit square. An image turns, slants, stretches and moves
them by chance and shades each pixel by its distance to the nearest stroke,

.. math::
    p(u) = \mathrm{clip}\bigl(w + \tfrac{1}{2} - \min_k d(u, s_k),\, 0,\, 1\bigr),

w being half the width of the pen, in pixels. Easier than handwriting and no replacement for it in any result:
it is there so that everything that takes MNIST can be run and tested anywhere.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from intermode.errors import InputError
from intermode.noise import draws
from intermode.targets.digits import CLASSES, SIZE, Digits

__all__ = ["drawn"]

SAMPLE_BLOCK = 64
"""Consecutive samples of a draw that share a generator: a draw of n is the start of a draw of 2n."""

BOX = 18.0
"""Pixels of the unit square's side, before stretching; about the size of MNIST's digits."""


def _arc(x: float, y: float, width: float, height: float, begin: float, end: float) -> list[tuple[float, float]]:
    """Points of an ellipse around (x, y), from angle to angle in turns, clockwise from the right."""
    angles = np.linspace(begin, end, 9) * math.tau
    return [(x + width * math.cos(a), y + height * math.sin(a)) for a in angles]


STROKES: list[list[list[tuple[float, float]]]] = [
    [_arc(0.5, 0.5, 0.35, 0.5, 0, 1)],
    [[(0.3, 0.2), (0.55, 0), (0.55, 1)]],
    [[*_arc(0.5, 0.27, 0.33, 0.27, 0.5, 1.05), (0.1, 1), (0.9, 1)]],
    [_arc(0.45, 0.25, 0.35, 0.25, 0.55, 1.25), _arc(0.45, 0.74, 0.4, 0.26, 0.75, 1.45)],
    [[(0.7, 1), (0.7, 0), (0.1, 0.65), (0.95, 0.65)]],
    [[(0.85, 0), (0.25, 0), (0.2, 0.45), *_arc(0.45, 0.68, 0.4, 0.32, 0.68, 1.4)]],
    [[(0.7, 0), (0.3, 0.35), *_arc(0.5, 0.7, 0.35, 0.3, 0.5, 1.5)]],
    [[(0.1, 0), (0.9, 0), (0.4, 1)]],
    [_arc(0.5, 0.25, 0.3, 0.25, 0, 1), _arc(0.5, 0.75, 0.38, 0.25, 0, 1)],
    [[*_arc(0.5, 0.3, 0.35, 0.3, 0, 1), (0.7, 1)]],
]
"""Of each class, in the unit square, y down."""

SEGMENTS = [np.array([pair for stroke in strokes for pair in pairwise(stroke)]) for strokes in STROKES]
"""(K, 2, 2) for each class: K segments, their two ends, (x, y)."""


def drawn(n: int, seed: int) -> Digits:
    """n drawn digits of uniformly random classes; digit i depends on (seed, i) alone.

    Raises:
        InputError: n < 1.
    """
    if n < 1:
        raise InputError(f"n: {n} samples asked for; must be at least 1")
    images = np.empty((n, SIZE, SIZE), np.uint8)
    classes = np.empty(n, np.uint8)
    for begin in range(0, n, SAMPLE_BLOCK):
        rng = draws(seed, "data", begin // SAMPLE_BLOCK)
        kinds = rng.integers(0, CLASSES, SAMPLE_BLOCK)
        chance = rng.uniform(-1, 1, (SAMPLE_BLOCK, 7))
        for row in range(min(SAMPLE_BLOCK, n - begin)):
            classes[begin + row] = kinds[row]
            images[begin + row] = _render(SEGMENTS[kinds[row]], chance[row])
    return Digits(images, classes)


def _render(segments: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """(28, 28) uint8 from segments (K, 2, 2) of the unit square and seven numbers in [-1, 1]."""
    turn, slant, wide, high, right, down, pen = chance * [0.2, 0.25, 0.15, 0.1, 2, 2, 0.35]
    turned = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = turned @ np.array([[1 + wide, -slant], [0, 1 + high]]) * BOX
    middle = np.array([SIZE / 2 + right, SIZE / 2 + down])
    a, b = np.moveaxis((segments - 0.5) @ matrix.T + middle, 1, 0)[:, :, None]  # each (K, 1, 2)
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    pixels = np.stack([columns, rows], -1).reshape(-1, 2)
    # the nearest point of a segment lies at a share of its length between 0 and 1
    along = np.clip(((pixels - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1)[..., None]
    distance = np.linalg.norm(pixels - a - along * (b - a), axis=-1).min(0)
    return np.rint(np.clip(1.15 + pen + 0.5 - distance, 0, 1) * 255).astype(np.uint8).reshape(SIZE, SIZE)
