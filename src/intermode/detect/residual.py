r"""Residual: how far the denoiser moves a sample to which no noise was added.

.. math::
    R(x) = \frac1{|\mathcal T|} \sum_{t \in \mathcal T} \lVert \hat x_0(a_t x, t) - x \rVert

Where :math:`\hat x_0` is the posterior mean, :math:`\hat x_0(a_t x) - x = (s_t^2 / a_t)\, \nabla \log p_t(a_t x)`
(Tweedie): the residual is the norm of the score of the noised data, large on slopes of the density but also zero at the
very middle between two modes. It is what :mod:`intermode.detect.lid` tends to without noise. Ours; one evaluation for
each timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import AtTimesteps, StepWindow, as_scores

__all__ = ["Residual"]


class Residual(AtTimesteps):
    """Norm of x0_hat(a_t x, t) - x, in units of the data, mean over timesteps.

    Args:
        timesteps: where it is measured; small ones: 1, 2, 3 unless given.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps, a range of SNR, or the
            model's ``critical`` windows.

    Raises:
        InputError: no timesteps, or one below 0.
    """

    name = "residual"

    def __init__(
        self,
        timesteps: Sequence[int] | None = None,
        *,
        window: StepWindow | tuple[int, int] | str | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, default=(1, 2, 3))

    @property
    def nfe(self) -> int:
        return self.count

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for t in self.at(denoiser.schedule):
            a, _ = denoiser.schedule.level(t)
            moved = denoiser(a * x, t, **condition) - x
            total += moved.to(torch.float64).flatten(1).norm(dim=1)
        return as_scores(total / self.count, x)
