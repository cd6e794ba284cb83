r"""RODS: where the landscape bends, the score of a point beside.

.. math::
    \tilde s(x_t) = s(x_t + \delta), \qquad
    \delta_{\mathrm{SAS}} = -\rho \frac{s}{\lVert s \rVert}, \qquad
    \delta_{\mathrm{CAS}} = \rho \frac{g}{\lVert g \rVert}, \qquad g = \nabla \lVert s \rVert

where the curvature :math:`H = \lVert g(x_t + \rho\, g / \lVert g \rVert) - g(x_t) \rVert` (the detector's:
:mod:`intermode.detect.curvature`) reaches a threshold (Tian et al. 2025, arXiv 2507.12201). SAS, sharpness-aware, looks
where the density falls; CAS, curvature-aware, where the score grows. Known of the original only second-hand: not ρ, the
threshold or the steps. Here ρ is a multiple of s_t and H is in units of the noise, as the detector's. Then
:math:`\tilde x_0 = \hat x_0(x_t + \delta) - \delta / a_t`. Of a single standard Gaussian, whose score is :math:`-x`,
SAS goes outwards and adds ρ s_t to the score's norm.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import BACKWARD_NFE
from intermode.detect.curvature import gradient_of_norm, unit
from intermode.errors import InputError
from intermode.mitigate.corrected import Corrected

__all__ = ["Robust"]


class Robust(Corrected):
    """A denoiser that is asked beside x_t, where the landscape bends.

    Args:
        denoiser: to correct.
        along: ``score`` (SAS) or ``curvature`` (CAS).
        radius: ρ in units of s_t; 0 is the denoiser itself.
        threshold: of H, without unit; 0 is everywhere, and costs no curvature with ``score``.
        until: the noisiest timestep at which it is corrected.

    Raises:
        InputError: another direction, or a negative radius or threshold.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        along: Literal["score", "curvature"],
        radius: float,
        *,
        threshold: float = 0.0,
        until: int | None = None,
    ) -> None:
        super().__init__(denoiser, until)
        if along not in ("score", "curvature"):
            raise InputError(f"along: unknown {along!r}; choose score (SAS) or curvature (CAS)")
        if not min(radius, threshold) >= 0:
            raise InputError(f"radius, threshold: {radius}, {threshold} must be at least 0")
        self.along, self.radius, self.threshold = along, radius, threshold

    @property
    def cost(self) -> int:
        if not self.radius:
            return 1
        gradients = 2 if self.threshold else 1 if self.along == "curvature" else 0
        return 2 + gradients * (1 + BACKWARD_NFE)

    def corrected(self, x_t: Tensor, t: int, **condition: Any) -> Tensor:
        a, s = self.schedule.level(t)
        x0_hat, step = self.inner(x_t, t, **condition), self.radius * s
        if not step:
            return x0_hat
        bent: Tensor | None = None
        if self.threshold or self.along == "curvature":
            g = gradient_of_norm(self.inner, x_t, t, condition)
            towards = step * unit(g)
            if self.threshold:
                bend = gradient_of_norm(self.inner, x_t + towards, t, condition) - g
                bent = s * bend.flatten(1).norm(dim=1) >= self.threshold
        delta = towards if self.along == "curvature" else step * unit(x_t - a * x0_hat)  # the noise: minus the score
        beside = self.inner(x_t + delta, t, **condition) - delta / a
        return beside if bent is None else torch.where(bent.reshape(-1, *[1] * (x_t.ndim - 1)), beside, x0_hat)
