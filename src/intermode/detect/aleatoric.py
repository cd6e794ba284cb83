r"""Aleatoric uncertainty: how much the predicted noise changes when the predicted sample is noised again.

.. math::
    x_t^{(m)} = a_t \hat x_0(x_t, t) + s_t \varepsilon_m, \qquad
    U(x) = \frac1{|\mathcal T|} \sum_{t \in \mathcal T} \frac1M \sum_{m=1}^M \frac1d
        \bigl\lVert \hat\varepsilon(x_t^{(m)}, t) - \hat\varepsilon(x_t, t) \bigr\rVert^2

(De Vita & Belagiannis 2025, arXiv 2412.00205, formula as in their released code: a mean square about the prediction at
x_t, not a variance about the M predictions' own mean.) The original looks at the last 10 of 50 steps of the trajectory
that made the sample, M = 5; here :math:`x_t = a_t x + s_t \varepsilon` is the finished sample noised anew, so that any
sample, training data too, can be scored. M + 1 evaluations a timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import AtTimesteps, StepWindow, as_scores
from intermode.errors import InputError

__all__ = ["Aleatoric"]


class Aleatoric(AtTimesteps):
    """Mean square change of eps_hat over re-noisings of x0_hat, mean over dimensions and timesteps.

    Args:
        timesteps: to which the sample is noised; 1 to 10 unless given.
        noises: M, re-noisings of each prediction.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps or a range of SNR.

    Raises:
        InputError: no timesteps, one below 0, or no noises.
    """

    name = "aleatoric"

    def __init__(
        self,
        timesteps: Sequence[int] | None = None,
        noises: int = 5,
        *,
        window: StepWindow | tuple[int, int] | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, default=range(1, 11))
        if noises < 1:
            raise InputError(f"noises: {noises} must be at least 1")
        self.noises = noises

    @property
    def nfe(self) -> int:
        return self.count * (1 + self.noises)

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        schedule = denoiser.schedule
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for t in self.at(schedule):
            a, s = schedule.level(t)
            x_t = schedule.add_noise(x, noise(), t)
            x0_hat = denoiser(x_t, t, **condition)
            eps_hat = (x_t - a * x0_hat) / s
            for _ in range(self.noises):
                change = denoiser.eps(schedule.add_noise(x0_hat, noise(), t), t, **condition) - eps_hat
                total += change.to(torch.float64).square().flatten(1).mean(1)
        return as_scores(total / (self.noises * self.count), x)
