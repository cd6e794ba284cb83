r"""Scores from the samplers of k-diffusion, and from others that call back in the same way.

Its samplers call ``callback`` once a step, before they move, with a dict of ``x`` (B, ...) at the noise level
``sigma_hat``, the step's number ``i`` and the ``denoised`` x, which is :math:`\hat x_0`. Samples are in sigma space,
:math:`x = x_0 + \sigma\varepsilon`; steps show them divided by :math:`\sqrt{1 + \sigma^2}`, so that
:math:`a_t^2 + s_t^2 = 1` as everywhere else.

.. code-block:: python

    from intermode.integrations.k_diffusion import Callback

    callback = Callback("hal", sigmas)
    x = k_diffusion.sampling.sample_euler(model, x, sigmas, callback=callback)
    callback.finish(x)
    scores = callback.scores["hal"]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.detect.registry import Detectors
from intermode.errors import InputError
from intermode.integrations.recording import Recorder, VisitedLevels
from intermode.samplers import Step

__all__ = ["Callback"]


class Callback:
    """A k-diffusion callback that shows steps to detectors, in one call of a sampler and then the next.

    Args:
        detectors: one that watches samples while they are made, its name, or several of both. Windows are fractions
            or signal-to-noise ratios, since there are no timesteps; ``Step.t`` counts the steps that are left.
        sigmas: (K + 1,) the noise levels that the sampler is given, ending in 0 or at the last level.

    Raises:
        InputError: sigmas that do not fall, or detectors that cannot score these steps.
    """

    def __init__(self, detectors: Detectors, sigmas: Tensor) -> None:
        levels = sigmas.detach().cpu().double().numpy()
        if levels.ndim != 1 or len(levels) < 3 or (np.diff(levels) >= 0).any() or levels[-1] < 0:
            raise InputError("sigmas: need at least 3 noise levels that fall, none below 0")
        self._steps = len(levels) - 1
        self._sigmas = levels
        self._recorder = Recorder(detectors)
        self._pending: Step | None = None
        self._begin()

    def _begin(self) -> None:
        left = range(self._steps - 1, -1, -1)
        levels = {t: _level(sigma) for t, sigma in zip(left, self._sigmas[:-1], strict=True)}
        self._recorder.begin(VisitedLevels(levels, None, "k-diffusion"), left)

    @torch.no_grad()
    def __call__(self, payload: Mapping[str, Any]) -> None:
        """Take in one step: ``x``, ``i``, ``sigma_hat`` and ``denoised``."""
        index, level = int(payload["i"]), _level(float(payload["sigma_hat"]))
        x_t = payload["x"] * level[0]
        if index == 0 and self._pending is not None:  # the sampler was called anew, the last call left unfinished
            self._pending = None
            self._begin()
        self._complete(x_t)
        t = self._steps - 1 - index
        self._pending = Step(index, t, x_t, payload["denoised"], x_t, self._steps, level)

    def _complete(self, x_next: Tensor) -> None:
        if self._pending is not None:
            self._recorder.update(replace(self._pending, x_next=x_next))
        self._pending = None

    def finish(self, x: Tensor) -> None:
        """End the trajectory with what the sampler returned, (B, ...): its scores become rows.

        Raises:
            InputError: the sampler has not called back for every step.
        """
        if self._pending is None or self._pending.index != self._steps - 1:
            raise InputError(f"callback: the sampler has not called back for the last of {self._steps} steps")
        self._complete(x * _level(self._sigmas[-1])[0])
        self._recorder.finish()
        self._begin()

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """A (n,) float64 array for each detector, the rows of all finished trajectories in order."""
        return self._recorder.scores


def _level(sigma: float) -> tuple[float, float]:
    a = 1 / math.hypot(1, sigma)
    return a, float(sigma * a)
