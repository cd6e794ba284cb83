r"""Laplacian sharpening: the score less its own Laplacian, as an image is sharpened.

.. math::
    \tilde s = s - \alpha\, \Delta s

(Chandran et al. 2025, arXiv 2511.07496). Since :math:`\Delta s = (a / s_t^2)\, \Delta \hat x_0`, with
:math:`\alpha` and the distance of the differences in units of the noise that is

.. math::
    \tilde x_0 = \hat x_0 - \frac{\alpha}{r^2} \sum_i \bigl(\hat x_0(x_t + r s_t e_i) + \hat x_0(x_t - r s_t e_i)
        - 2 \hat x_0(x_t)\bigr).

A straight line is left as it is, and so is the score of a single Gaussian. The published α, differences and window are
not known to us; nor is the estimate by random probes used here, which images need: differences are taken along every
axis, for samples of a few numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.mitigate.corrected import Corrected

__all__ = ["Sharpened"]


class Sharpened(Corrected):
    """The score less its Laplacian.

    Args:
        denoiser: of samples of shape (d,).
        strength: α in units of s_t²; 0 is the denoiser itself.
        radius: r, distance of the differences in units of s_t.
        until: the noisiest timestep at which it is sharpened.

    Raises:
        InputError: samples of another form, a negative strength, or a radius that is not positive.
    """

    def __init__(self, denoiser: Denoiser, strength: float, *, radius: float = 1.0, until: int | None = None) -> None:
        super().__init__(denoiser, until)
        if len(denoiser.shape) != 1:
            raise InputError(f"model: samples of shape {denoiser.shape}; differences are taken of a few numbers alone")
        if not strength >= 0:
            raise InputError(f"strength: {strength} must be at least 0")
        if not radius > 0:
            raise InputError(f"radius: {radius} must be > 0 (in units of the noise level)")
        self.strength, self.radius = strength, radius

    @property
    def cost(self) -> int:
        return 1 + 2 * self.shape[0] if self.strength else 1

    def corrected(self, x_t: Tensor, t: int, **condition: Any) -> Tensor:
        x0_hat = self.inner(x_t, t, **condition)
        if not self.strength:
            return x0_hat
        laplacian = torch.zeros_like(x0_hat)
        for along in self.radius * self.schedule.level(t)[1] * torch.eye(self.shape[0]).to(x_t):
            laplacian += self.inner(x_t + along, t, **condition) + self.inner(x_t - along, t, **condition) - 2 * x0_hat
        return torch.add(x0_hat, laplacian, alpha=-self.strength / self.radius**2)
