r"""Simple Shapes: images of a triangle, a square and a pentagon, each at most once (paper, sections 1.1 and A.2).

64×64 pixels, black and white, three columns of 21 pixels: a triangle in the first, a square in the second, a
pentagon in the third, each present with probability 1/2 at a uniformly random integer place entirely inside its
column. All-black images are dropped, as in the data that the paper's authors released, so blank is off the
support. Given that at least one shape is present, the seven patterns of presence are equally likely: drawing one
of seven is the same law as dropping blanks.

Two oracles know the support. :mod:`~intermode.targets.shape_support` finds the exactly nearest support image;
:mod:`~intermode.targets.shape_oracle` reads the shapes off an image, whatever drew it, and says what is wrong.
The ideal denoiser is a third (:mod:`~intermode.targets.shape_denoiser`): a model that never errs.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from intermode.errors import InputError
from intermode.files import replacing
from intermode.noise import draws
from intermode.schedules import Schedule
from intermode.targets.shape_denoiser import ShapesDenoiser
from intermode.targets.shape_oracle import ShapeLabels, read
from intermode.targets.shape_support import COLUMN, KINDS, SIZE, NearestShapes, nearest, places, render

__all__ = ["Range", "Shapes", "save_images"]

Range = Literal["[-1,1]", "[0,1]"]
"""What black and white are in floating-point images."""

SAMPLE_BLOCK = 4096
"""Consecutive samples of a draw that share a generator: a draw of n is the start of a draw of 2n."""


@dataclass(frozen=True)
class Shapes:
    """The Simple Shapes data.

    Args:
        keep_blank: keep all-black images (one in eight) and count them as in-support.
    """

    keep_blank: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, 64, 64)"""
        return (1, SIZE, SIZE)

    @property
    def presence(self) -> float:
        """Probability that a shape of a kind is in an image: 1/2; without blanks 4/7."""
        patterns = 2 ** len(KINDS)
        return patterns / 2 / (patterns if self.keep_blank else patterns - 1)

    def images(self, n: int, seed: int) -> np.ndarray:
        """(n, 64, 64) uint8 draws, 0 or 255; image i depends on (seed, i) alone.

        Raises:
            InputError: n < 1.
        """
        if n < 1:
            raise InputError(f"n: {n} samples asked for; must be at least 1")
        blocks = []
        for block in range(math.ceil(n / SAMPLE_BLOCK)):
            rng = draws(seed, "data", block)
            pattern = rng.integers(0 if self.keep_blank else 1, 2 ** len(KINDS), SAMPLE_BLOCK)
            free = np.array([places(kind) for kind in KINDS])
            row = rng.integers(0, free[:, 0], (SAMPLE_BLOCK, len(KINDS)))
            column = rng.integers(0, free[:, 1], (SAMPLE_BLOCK, len(KINDS))) + COLUMN * np.arange(len(KINDS))
            present = (pattern[:, None] >> np.arange(len(KINDS))) & 1 == 1
            size = min(SAMPLE_BLOCK, n - block * SAMPLE_BLOCK)
            blocks.append(render(present[:size], row[:size], column[:size]))
        return np.concatenate(blocks)

    def sample(self, n: int, seed: int) -> Tensor:
        """(n, 1, 64, 64) float32 draws, -1 or 1: the same as ``images(n, seed)``.

        Raises:
            InputError: n < 1.
        """
        return torch.from_numpy(self.images(n, seed)).float().div_(127.5).sub_(1)[:, None]

    def denoiser(self, schedule: Schedule) -> ShapesDenoiser:
        """The ideal denoiser, E[x_0 | x_t] in closed form: see :mod:`intermode.targets.shape_denoiser`."""
        return ShapesDenoiser(schedule, keep_blank=self.keep_blank)

    def nearest(self, x: Tensor | np.ndarray, *, range: Range = "[-1,1]") -> NearestShapes:
        """The exactly nearest support image of each image, and the squared distance to it by column.

        Args:
            x: (n, 64, 64) or (n, 1, 64, 64), uint8 (0..255) or floating.
            range: black and white of floating images; uint8 images have their own.

        Raises:
            InputError: another shape, dtype or range.
        """
        return nearest(_intensities(x, range), keep_blank=self.keep_blank)

    def label(self, x: Tensor | np.ndarray, *, range: Range = "[-1,1]") -> ShapeLabels:
        """What is drawn in each image and whether it can be: see :mod:`intermode.targets.shape_oracle`.

        Args:
            x: (n, 64, 64) or (n, 1, 64, 64), uint8 (0..255) or floating. Floats outside ``range`` are clipped;
                an image that is not finite is hallucinated, by the rule ``diverged``.
            range: black and white of floating images; uint8 images have their own.

        Raises:
            InputError: another shape, dtype or range.
        """
        return read(_intensities(x, range), keep_blank=self.keep_blank)


def _intensities(x: Tensor | np.ndarray, scale: Range) -> np.ndarray:
    """(n, 64, 64) float32 or float64 intensities, black 0 and white 1."""
    if scale not in ("[-1,1]", "[0,1]"):
        raise InputError(f"range: {scale!r} is not known; must be '[-1,1]' or '[0,1]'")
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        pixels = (x if x.dtype in (torch.uint8, torch.float64) or not x.is_floating_point() else x.float()).numpy()
    else:
        pixels = np.asarray(x)
    if pixels.shape[1:] not in ((SIZE, SIZE), (1, SIZE, SIZE)):
        raise InputError(f"samples: shape {pixels.shape} does not fit; must be (n, 64, 64) or (n, 1, 64, 64)")
    pixels = pixels.reshape(-1, SIZE, SIZE)
    if pixels.dtype == np.uint8:
        return pixels / np.float32(255)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputError(f"samples: dtype {pixels.dtype} does not fit; must be uint8 (0..255) or floating")
    if pixels.dtype != np.float64:
        pixels = pixels.astype(np.float32, copy=False)
    return (pixels + 1) / 2 if scale == "[-1,1]" else pixels


def save_images(images: np.ndarray, path: Path) -> None:
    """Save uint8 images (n, 64, 64): as one array if ``path`` ends in ``.npy``, else as a new folder of PNG files.

    The files are called ``000000.png`` and on, in order. File or folder appear whole or not at all.

    Raises:
        InputError: images of another shape or dtype; a folder that is there already and not empty.
    """
    if images.dtype != np.uint8 or images.shape[1:] != (SIZE, SIZE):
        raise InputError(f"images: {images.dtype} of shape {images.shape} does not fit; must be uint8 of (n, 64, 64)")
    if path.suffix == ".npy":
        with replacing(path) as temporary:
            np.save(temporary, images)
        return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: is there already; must be a new or empty folder, or a file name that ends in .npy")
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{i:06d}.png")
        folder.chmod(0o755)  # mkdtemp makes folders private to their owner
        os.replace(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
