r"""Curvature: how much the gradient of the score's norm changes a short way along itself.

.. math::
    g(x_t) = \nabla_x \lVert s(x_t, t) \rVert, \qquad
    H = \Bigl\lVert g\Bigl(x_t + \rho \frac{g}{\lVert g \rVert}\Bigr) - g(x_t) \Bigr\rVert, \qquad
    s(x, t) = \nabla \log p_t(x)

the detector of RODS (Tian et al. 2025, arXiv 2507.12201), which marks the steps of a trajectory at which the landscape
bends. Around a single Gaussian g has the same direction and length all along the ray, and H = 0; in one dimension
:math:`g = \mathrm{sign}(s)\, s'` and H is the change of the posterior variance times :math:`a^2/s^4`.

Known of the original only second-hand: not ρ, nor the window. Here :math:`\rho` is a multiple of s_t, and the norm is
measured in units that stay alike over t: s_t s(x) is the predicted noise up to its sign, and the gradient is taken in
units of s_t, which multiplies H by :math:`s_t^2` at timestep t. The score is the mean over timesteps at
:math:`x_t = a_t x`. Two gradients a timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import BACKWARD_NFE, AtTimesteps, StepWindow, as_scores
from intermode.errors import InputError

__all__ = ["Curvature", "gradient_of_norm", "unit"]


class Curvature(AtTimesteps):
    """Change of the gradient of the score's norm over a step of ``radius`` noise levels, without unit.

    Args:
        timesteps: where it is measured; 3, 5, 7, 10 unless given.
        radius: length of the step, in units of s_t.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps or a range of SNR.

    Raises:
        InputError: no timesteps, one below 0, or a radius that is not positive.
    """

    name = "curvature"

    def __init__(
        self,
        timesteps: Sequence[int] | None = None,
        radius: float = 1.0,
        *,
        window: StepWindow | tuple[int, int] | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, default=(3, 5, 7, 10))
        if not radius > 0:
            raise InputError(f"radius: {radius} must be > 0 (in units of the noise level)")
        self.radius = radius

    @property
    def nfe(self) -> int:
        return 2 * (1 + BACKWARD_NFE) * self.count

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for t in self.at(denoiser.schedule):
            a, s = denoiser.schedule.level(t)

            x_t = a * x
            here = gradient_of_norm(denoiser, x_t, t, condition)
            bend = gradient_of_norm(denoiser, x_t + self.radius * s * unit(here), t, condition) - here
            total += s * bend.to(torch.float64).flatten(1).norm(dim=1)
        return as_scores(total / self.count, x)


def gradient_of_norm(denoiser: Denoiser, x_t: Tensor, t: int, condition: dict[str, Any]) -> Tensor:
    """(B, ...) the gradient of the predicted noise's norm at (x_t, t)."""
    with torch.enable_grad():
        z = x_t.detach().requires_grad_()
        # samples do not see each other: the gradient of the sum holds each one's own
        total = denoiser.eps(z, t, **condition).flatten(1).norm(dim=1).sum()
        return torch.autograd.grad(total, z)[0]


def unit(direction: Tensor) -> Tensor:
    """(B, ...) directions of length 1; none stays none."""
    length = direction.flatten(1).norm(dim=1).clamp(min=torch.finfo(direction.dtype).tiny)
    return direction / length.reshape(-1, *[1] * (direction.ndim - 1))
