"""A film of what a chain does, for people: in one dimension its exact law, of images x0_hat of two of them.

In one dimension the law of x_t under the learned score grows beside that of the true one, with what is decided between
the modes, and is wiped by restarts (:mod:`intermode.animating.laws`). Of images x0_hat of a flagged one is played
beside that of a good one (:mod:`intermode.animating.images`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from intermode.animating.film import check_film, write_film
from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.models import as_denoiser
from intermode.progress import Progress
from intermode.samplers import Ancestral, Sampler
from intermode.sampling import as_condition, check_classes
from intermode.targets.gaussian import GaussianMixture
from intermode.targets.known import of_model
from intermode.values import as_whole
from intermode.verbs import shown, strict

__all__ = ["animate"]

IMAGES = 64
"""Drawn, of which two are shown."""


@strict
def animate(
    model: Denoiser | str | Path,
    out: str | Path,
    *,
    target: Any = None,
    sampler: Sampler | None = None,
    n: int = IMAGES,
    condition: Any = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Path:
    """Write a film of a model at work, and return its path.

    >>> intermode.animate("gaussian-1d", "density.html")

    Args:
        model: of samples of one number, or of images: a denoiser, or what :func:`intermode.load` takes.
        out: the film: ``.gif``, or ``.html``, one page with a player that needs no network.
        target: what the data is; needed in one dimension, where it must be a mixture. Of images it says which are
            hallucinated, and else Hal does. That of a shipped model is known.
        sampler: the reverse chain; ``Ancestral()`` unless given, of images 50 steps of small variance.
        n: images drawn, of which two are shown.
        condition: what a model of images is told, ``{"class_labels": ...}``: n values, or one class; unless given all
            classes in turn.
        seed: random numbers belong to (seed, sample index).
        progress: True shows bars.

    Raises:
        InputError: another suffix, samples that are neither one number nor images, or no target where one is needed.
    """
    path, denoiser, bars = Path(out), as_denoiser(model), shown(progress)
    check_film(path)
    shape, seed = denoiser.shape, as_whole("seed", seed, 0)
    target = of_model(model) if target is None else target
    if target is not None and tuple(target.shape) != shape:
        raise InputError(f"target: is one of samples of shape {tuple(target.shape)}; the model's are {shape}")
    if shape == (1,):
        if not isinstance(target, GaussianMixture):
            raise InputError("target: give the mixture that the data is, line(means, sigma); the true score is shown")
        from intermode.animating import line
        from intermode.animating.laws import film

        found = film(denoiser, target, sampler or Ancestral(), seed=seed, progress=bars)
        write_film(path, "From noise to data: the learned score and the true one", line.shots(found, target))
        return path
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InputError(f"model: its samples are of shape {shape}; one number, or images, can be shown")
    from intermode.animating import images

    n = as_whole("n", n, 2)
    if condition is None and denoiser.classes:
        condition = {"class_labels": np.arange(n) % denoiser.classes}
    told = as_condition(condition, n, denoiser)
    check_classes(denoiser, told)
    pair = images.drawn_pair(
        denoiser, n, target=target, sampler=sampler or images.STEPS, condition=told, seed=seed, progress=bars
    )
    write_film(path, "x0_hat of two images, from noise to data", images.shots(pair))
    return path
