r"""The learned step of :math:`\hat x_0` from one mode of a 1-D mixture to the next, in numbers, at a timestep.

Between two modes the true :math:`\hat x_0(x_t)` jumps, at small t within a fraction of the noise; a network's rises
gradually. For a denoiser, with the law :math:`p_t` of the true :math:`x_t`:

* *width*: of the :math:`x_t / a_t` between the outermost modes at which :math:`\hat x_0` lies off the support;
* *weight*: the probability of these under :math:`p_t`, with which :math:`\hat x_0` itself is a hallucination;
* *slope*: :math:`\max \partial \hat x_0 / \partial x_t` between the modes, over the true one;
* *error*: :math:`\mathbb E_{p_t} (\hat\varepsilon - \mathbb E[\varepsilon \mid x_t])^2`, the error of the score
  weighted by :math:`s_t^2`: what training makes small.
"""

from __future__ import annotations

import numpy as np
import torch

from intermode.denoisers import Denoiser, MixtureDenoiser
from intermode.targets.gaussian import GaussianMixture

__all__ = ["PREDICTORS", "learned_step"]

PREDICTORS = ("width", "weight", "slope", "error")
SPACING = 2e-4
"""Of the points: the true jump at t = 0 is some 3e-3 wide."""
REACH = 8.0
"""Standard deviations beyond the outermost modes within which the error is weighted."""


@torch.no_grad()
def learned_step(denoiser: Denoiser, target: GaussianMixture, t: int) -> dict[str, float]:
    """All of :data:`PREDICTORS` of a denoiser of a 1-D mixture at a timestep."""
    a, s = denoiser.schedule.level(t)
    true, noised = MixtureDenoiser(target, denoiser.schedule), target.noised(a, s)
    low, high = a * target.means.min(), a * target.means.max()
    reach = REACH * float(noised.sigma.max())
    x = torch.arange(low - reach, high + reach, SPACING, dtype=torch.float64)[:, None]
    learned = torch.cat([denoiser(part, t).double() for part in x.to(denoiser.dtype).split(8192)])
    ideal, density = true(x, t), noised.log_prob(x).exp()
    between = ((x > low) & (x < high)).squeeze(1)
    off = between & torch.from_numpy(target.label(learned).hallucinated)
    slopes = [float(np.diff(field[between, 0].numpy()).max()) for field in (learned, ideal)]
    return {
        "width": float(off.sum()) * SPACING / a,
        "weight": float(density[off].sum()) * SPACING,
        "slope": slopes[0] / slopes[1],
        "error": float((density * ((a / s) * (learned - ideal)[:, 0]) ** 2).sum()) * SPACING,
    }
