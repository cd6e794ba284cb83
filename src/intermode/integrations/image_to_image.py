"""Repair by an image-to-image pipeline of `diffusers`: with a small ``strength`` it is a restart from that level.

Such a pipeline noises an image to the first of the last ``strength`` of its timesteps and comes down from there, with
prompt and guidance as the caller gives them. It shares its weights with the pipeline that made the images
(``StableDiffusionImg2ImgPipeline(**pipe.components)``, ``AutoPipelineForImage2Image.from_pipe(pipe)``). Only flagged
images pass through it, whatever the scheduler.

A restart is scored by its own steps, so the detector's window has to lie under the level: its scores of the chain that
made the images, and the threshold, must come from the same window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from intermode.detect.registry import Detectors
from intermode.errors import InputError
from intermode.integrations.watching import watch
from intermode.noise import draws
from intermode.repairs import Repair
from intermode.thresholds import Threshold
from intermode.values import as_numbers
from intermode.verbs import strict

__all__ = ["RepairedImages", "repair_images"]

GENERATORS = 2**63


@dataclass(frozen=True)
class RepairedImages:
    """Images after a repair, in their order.

    Attributes:
        images: the very objects that were given where they were not flagged, or given up.
        scores: (n,) float64, of the images as they are now.
        touched, accepted: (n,) bool, flagged; pass.
        threshold: that an image has to pass.
        restarts: of one image each.
    """

    images: list[Any]
    scores: np.ndarray
    touched: np.ndarray
    accepted: np.ndarray
    threshold: Threshold
    restarts: int

    @property
    def mended(self) -> np.ndarray:
        """(n,) bool, flagged before and passing now."""
        return self.touched & self.accepted

    def __str__(self) -> str:
        counts = f"{self.touched.sum():,} of {len(self.images):,} touched, {self.mended.sum():,} mended"
        return f"{counts}, {(~self.accepted).sum():,} given up: {self.threshold}; {self.restarts:,} restarts"


@strict
def repair_images(
    pipe: Any,
    images: Sequence[Any],
    scores: Any,
    *,
    detector: Detectors,
    call: dict[str, Any],
    threshold: Threshold | float | None = None,
    share: float = 0.02,
    tries: int = 5,
    seed: int = 0,
    batch: int = 8,
) -> RepairedImages:
    """Pass what is flagged through an image-to-image pipeline until it passes.

    Args:
        pipe: called as ``pipe(image=..., generator=..., **call)``; its ``images`` are the result.
        images: as the pipeline takes them, PIL images say.
        scores: (n,) of these images, by the same detector while they were made.
        detector: that watches; its window must lie under the level that ``strength`` stands for.
        call: the pipeline's own arguments: ``strength``, ``prompt``, ``guidance_scale``, ... A list of n has an entry
            for each image.
        threshold, share: see :func:`intermode.repair`.
        tries: restarts of an image, at most.
        seed: random numbers belong to (seed, index of the image, try).
        batch: images at a time.

    Raises:
        InputError: scores that do not fit, a threshold of another score, or a window that the restart does not pass
            through.
    """
    settings, values = Repair(detector, threshold, share, tries=tries), as_numbers("scores", scores)
    if values.shape != (len(images),):
        raise InputError(f"scores: shape {values.shape} for {len(images)} images; must be one for each")
    watched = watch(pipe, detector)
    name = watched.detectors[0].name
    settings.check_score(name)
    limit = settings.limit(values, name)
    touched = ~np.asarray(limit.keep(values))
    accepted, result, current, restarts = ~touched, list(images), list(images), 0
    for number in range(1, tries + 1):
        left = np.flatnonzero(~accepted)
        for rows in (left[start : start + batch].tolist() for start in range(0, len(left), batch)):
            own = {
                key: [value[row] for row in rows] if isinstance(value, list) and len(value) == len(images) else value
                for key, value in call.items()
            }
            seeds = [int(draws(seed, "restart", row, number).integers(GENERATORS)) for row in rows]
            generators = [torch.Generator().manual_seed(each) for each in seeds]
            with watched:
                made = pipe(image=[current[row] for row in rows], generator=generators, **own).images
            restarts += len(rows)
            for row, image, value in zip(rows, made, watched.scores[name], strict=True):
                current[row] = image
                if limit.keep([value])[0]:
                    result[row], values[row], accepted[row] = image, value, True
    return RepairedImages(result, values, touched, accepted, limit, restarts)
