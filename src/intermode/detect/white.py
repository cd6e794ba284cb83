r"""White: how bright an image is, the trivial score of images. It costs nothing.

.. math::
    W(x) = \frac1d \sum_i \frac{\min(\max(x_i, -1), 1) + 1}{2}

For Simple Shapes it is the share of white pixels, for digits the amount of ink. It knows how much is in an image and
nothing of what: a score that finds no more than this one has found the content, not the error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import as_scores
from intermode.errors import InputError
from intermode.schedules import Schedule

__all__ = ["White", "white"]


def white(x: Tensor) -> Tensor:
    """(n,) float64 mean of images (n, C, H, W) in 0..1, whose range is -1..1; infinite where one is not finite.

    Raises:
        InputError: samples that are no images.
    """
    if x.ndim != 4:
        raise InputError(f"white: samples of shape {tuple(x.shape[1:])} are no images (C, H, W); only these have white")
    return as_scores((x.double().clamp(-1, 1) + 1).flatten(1).mean(1) / 2, x)


class White:
    """The mean of an image in 0..1: the share that is white."""

    name = "white"
    nfe = 0

    def check(self, schedule: Schedule) -> None:
        """Any schedule will do."""

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        return white(x)
