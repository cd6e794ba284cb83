r"""Intrinsic quenching: down the LID energy of the prediction.

.. math::
    \tilde s = s - \lambda_t\, \nabla_{x_t} E\bigl(\hat x_0(x_t)\bigr), \qquad
    E(x) = \mathbb E_\varepsilon \lVert \varepsilon - \hat\varepsilon(a_k x + s_k \varepsilon,\, k) \rVert^2

(Sobieski et al. 2026, arXiv 2605.05026): E (the detector :mod:`intermode.detect.lid`) is small on the data and large
between modes, so its gradient leads a chain away from there. With :math:`\lambda_t = \lambda` for all t,
:math:`\tilde x_0 = \hat x_0 - \lambda (s_t^2 / a_t) \nabla E`. The mean over ε is Gauss-Hermite's sum, so that the
denoiser stays a function of x_t alone; that is for samples of one or two numbers. Around one Gaussian E is a parabola
and the sum exact. Known of the original only second-hand: neither :math:`\lambda_t` nor the timesteps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import BACKWARD_NFE
from intermode.errors import InputError
from intermode.mitigate.corrected import Corrected
from intermode.values import as_whole

__all__ = ["Quenched"]


class Quenched(Corrected):
    """A denoiser led down the LID energy of its own prediction.

    Args:
        denoiser: of samples of shape (1,) or (2,).
        strength: λ; 0 is the denoiser itself.
        level: k, the timestep of the energy.
        nodes: of Gauss-Hermite's sum along an axis; from 2 on it is exact for a parabola.
        until: the noisiest timestep at which it is corrected.

    Raises:
        InputError: samples of another form, a negative strength, or fewer than two nodes.
    """

    def __init__(
        self, denoiser: Denoiser, strength: float, *, level: int = 3, nodes: int = 5, until: int | None = None
    ) -> None:
        super().__init__(denoiser, until)
        if denoiser.shape not in ((1,), (2,)):
            raise InputError(f"model: samples of shape {denoiser.shape}; the sum over noises is for one or two numbers")
        if not strength >= 0:
            raise InputError(f"strength: {strength} must be at least 0")
        self.strength, self.level = strength, as_whole("level", level, 0)
        points, weights = np.polynomial.hermite_e.hermegauss(as_whole("nodes", nodes, 2))
        axes = [torch.from_numpy(points)] * denoiser.shape[0]
        self._noises = torch.cartesian_prod(*axes).reshape(-1, len(axes))
        of_axes = torch.cartesian_prod(*[torch.from_numpy(weights / weights.sum())] * len(axes))
        self._weights = of_axes.reshape(-1, len(axes)).prod(1)

    @property
    def cost(self) -> int:
        return (1 + len(self._noises)) * (1 + BACKWARD_NFE) if self.strength else 1

    def energy(self, x: Tensor, **condition: Any) -> Tensor:
        """(B,) E of finished samples x (B, d)."""
        total = torch.zeros(len(x)).to(x)
        for eps, weight in zip(self._noises.to(x), self._weights.tolist(), strict=True):
            eps = eps.expand_as(x)
            missed = eps - self.inner.eps(self.schedule.add_noise(x, eps, self.level), self.level, **condition)
            total = total + weight * missed.square().sum(1)
        return total

    def corrected(self, x_t: Tensor, t: int, **condition: Any) -> Tensor:
        if not self.strength:
            return self.inner(x_t, t, **condition)
        with torch.enable_grad():
            z = x_t.detach().requires_grad_()
            x0_hat = self.inner(z, t, **condition)
            gradient = torch.autograd.grad(self.energy(x0_hat, **condition).sum(), z)[0]
        a, s = self.schedule.level(t)
        return torch.add(x0_hat.detach(), gradient, alpha=-self.strength * s**2 / a)
