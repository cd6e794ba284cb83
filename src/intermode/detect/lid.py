r"""LID energy: how badly the noise that was added to a sample is found again, at small t.

.. math::
    E(x) = \frac1n \sum_{k=1}^n \bigl\lVert \varepsilon_k - \hat\varepsilon(a_{t_k} x + s_{t_k} \varepsilon_k,\, t_k)
        \bigr\rVert^2

(Sobieski et al. 2026, arXiv 2605.05026). On a manifold of dimension m whose curvature the noise does not see, the
denoiser projects onto it, the noise along the manifold cannot be told from data, and :math:`E = m`, the local intrinsic
dimension; a point beside the manifold adds its distance in units of the noise,
:math:`(a_t / s_t)^2 \lVert x - \hat x_0 \rVert^2`. For a single Gaussian N(μ, σ²I) in d dimensions
:math:`\mathbb E\, E = (a^2\sigma^2 / v)^2 d + (s a / v)^2 \lVert x - \mu \rVert^2`, :math:`v = a^2\sigma^2 + s^2`.

Known of the original only second-hand: the energy, 32 noises and "small t"; not the timesteps. Here the noises go
round the timesteps in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import AtTimesteps, StepWindow, as_scores
from intermode.errors import InputError

__all__ = ["LID"]


class LID(AtTimesteps):
    """Mean squared norm of eps - eps_hat over re-noisings of the sample.

    Args:
        timesteps: small ones, where s_t is about the width of a mode: 1, 2, 3 unless given.
        noises: re-noisings, one network evaluation each; the k-th goes to timestep k modulo their number.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps, a range of SNR, or the
            model's ``critical`` windows.

    Raises:
        InputError: no timesteps, one below 0, or fewer noises than timesteps.
    """

    name = "lid"

    def __init__(
        self,
        timesteps: Sequence[int] | None = None,
        noises: int = 32,
        *,
        window: StepWindow | tuple[int, int] | str | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, default=(1, 2, 3))
        if noises < self.count:
            raise InputError(f"noises: {noises} is fewer than the {self.count} timesteps")
        self.noises = noises

    @property
    def nfe(self) -> int:
        return self.noises

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        timesteps = self.at(denoiser.schedule)
        for k in range(self.noises):
            t, eps = timesteps[k % len(timesteps)], noise()
            missed = eps - denoiser.eps(denoiser.schedule.add_noise(x, eps, t), t, **condition)
            total += missed.to(torch.float64).square().flatten(1).sum(1)
        return as_scores(total / self.noises, x)
