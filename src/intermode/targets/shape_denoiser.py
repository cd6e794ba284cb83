r"""The ideal denoiser of Simple Shapes, in closed form: :math:`E[x_0 \mid x_t]` over all support images.

Write :math:`x_0 = 2m - 1` with the white pixels m. Column c holds its raster :math:`R_c` at place p, or nothing. All
support images have the same norm, so with :math:`x_t = a x_0 + s \varepsilon` Bayes' rule leaves one inner product:
against the empty column, the raster at p has the log odds

.. math::
    \ell_c(p) = \frac{2a}{s^2} \langle x_t, R_c(p) \rangle - \log N_c,

where :math:`N_c` counts the places. That is one correlation of the strip with the raster, made by FFT: at the places
inside the column nothing wraps around. The columns depend on each other only through which patterns
:math:`b \in \{0, 1\}^3` of presence there are, all equally likely (without blanks, seven of the eight):

.. math::
    P(b \mid x_t) \propto \exp \sum_c b_c L_c, \qquad L_c = \log \sum_p e^{\ell_c(p)}, \qquad
    \hat x_0 = 2 \sum_c P(b_c = 1 \mid x_t) \sum_p e^{\ell_c(p) - L_c} R_c(p) - 1.

Everything is float64 and in logarithms: at the last timesteps :math:`2a/s^2` is about :math:`10^5`, and the log odds
reach millions. It is the posterior mean that a network trained on fresh images for ever would learn; its images are
off the support only if the sampler or the oracle errs.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.schedules import Schedule
from intermode.targets.shape_support import COLUMN, KINDS, SIZE, places, raster

__all__ = ["ShapesDenoiser"]


class ShapesDenoiser(Denoiser):
    """E[x_0 | x_t] of Simple Shapes, images in [-1, 1]; works on any device that has float64.

    Args:
        schedule: of the noise.
        keep_blank: the all-black image belongs to the data, and the columns are independent.

    Attributes:
        log_prior: (3, 64, 21) float64, log share of the places of a raster's top left pixel in its column, where that
            shape is present; -inf where it would stick out.
    """

    def __init__(self, schedule: Schedule, *, keep_blank: bool = False) -> None:
        self.schedule, self.keep_blank = schedule, keep_blank
        patterns = [pattern for pattern in itertools.product((0, 1), repeat=len(KINDS)) if keep_blank or any(pattern)]
        self._patterns = torch.tensor(patterns, dtype=torch.float64)
        self.log_prior = torch.full((len(KINDS), SIZE, COLUMN), -torch.inf, dtype=torch.float64)
        masks = np.zeros(self.log_prior.shape)
        for kind, name in enumerate(KINDS):
            (down, across), mask = places(name), raster(name)
            self.log_prior[kind, :down, :across] = -math.log(down * across)
            masks[kind, : mask.shape[0], : mask.shape[1]] = mask
        self._rasters = torch.fft.rfft2(torch.from_numpy(masks))

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, SIZE, SIZE)

    @property
    def identity(self) -> dict[str, str]:
        return super().identity | {"keep_blank": str(self.keep_blank)}

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        rasters, log_prior, patterns = (
            tensor.to(x_t.device) for tensor in (self._rasters, self.log_prior, self._patterns)
        )
        size = log_prior.shape[1:]
        strips = x_t[:, 0, :, : len(KINDS) * COLUMN].double().unflatten(2, (len(KINDS), COLUMN)).transpose(1, 2)
        a, s = self.schedule.level_like(t, strips)
        match = torch.fft.irfft2(torch.fft.rfft2(strips) * rasters.conj(), s=size)
        log_odds = (2 * a / s**2 * match + log_prior).flatten(2)
        pattern = torch.softmax(log_odds.logsumexp(2) @ patterns.T, dim=1)
        place = (pattern @ patterns)[..., None] * torch.softmax(log_odds, dim=2)
        white = torch.fft.irfft2(torch.fft.rfft2(place.unflatten(2, size)) * rasters, s=size)
        x0_hat = torch.full_like(x_t, -1)
        x0_hat[:, 0, :, : len(KINDS) * COLUMN] += 2 * white.transpose(1, 2).flatten(2)
        return x0_hat
