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
from intermode.detect import as_scores, check_timesteps, chosen_timesteps
from intermode.schedules import Schedule

__all__ = ["Residual"]


class Residual:
    """Norm of x0_hat(a_t x, t) - x, in units of the data, mean over timesteps.

    Args:
        timesteps: where it is measured; small ones.

    Raises:
        InputError: no timesteps, or one below 0.
    """

    name = "residual"

    def __init__(self, timesteps: Sequence[int] = (1, 2, 3)) -> None:
        self.timesteps = chosen_timesteps(timesteps)

    @property
    def nfe(self) -> int:
        return len(self.timesteps)

    def check(self, schedule: Schedule) -> None:
        check_timesteps(self.timesteps, schedule)

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for t in self.timesteps:
            a, _ = denoiser.schedule.level(t)
            moved = denoiser(a * x, t, **condition) - x
            total += moved.to(torch.float64).flatten(1).norm(dim=1)
        return as_scores(total / len(self.timesteps), x)
