r"""BayesDiff: the uncertainty of the last layer's weights, carried along the reverse chain.

With :math:`k = a_u / a_t` and :math:`c = s_u - k s_t`, DDIM's step is :math:`x_u = k x_t + c\, \varepsilon`. If
:math:`\varepsilon` is uncertain, each coordinate's variance follows

.. math::
    \mathrm{Var}[x_u] = k^2\, \mathrm{Var}[x_t] + 2 k c\, \mathrm{Cov}[x_t, \hat\varepsilon]
        + c^2\, \mathrm{Var}[\varepsilon \mid x_t]

(Kou et al. 2024, arXiv 2310.11142, as in their released code: the covariance from S draws of
:math:`x_t \sim \mathcal N(\mathrm E[x_t], \mathrm{Var}[x_t])`, the mean by the draws' mean prediction, negative
variances set to 0). The score is the sum of the variances at the clean sample. :math:`\mathrm{Var}[\varepsilon]` is the
last layer's (:mod:`intermode.detect.laplace`).

There x_T is the noise that made the sample, and Var[ε] is taken on one path drawn beside the mean; here x_T is found
by inverting DDIM, so that any sample can be scored, the mean is the only path, and the draws' predictions are taken
against that at the mean, an estimate of the same covariance with less noise. About S + 2 evaluations a timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import AtTimesteps, StepWindow, as_scores, refuse_unfitted
from intermode.detect.laplace import LastLayerLaplace
from intermode.errors import InputError
from intermode.ode import encode
from intermode.schedules import CLEAN, Schedule

__all__ = ["BayesDiff"]


class BayesDiff(AtTimesteps):
    """Sum over dimensions of the variance that the weights' uncertainty leaves in the sample; to be fitted.

    Args:
        timesteps: of the chain, rising.
        probes: S, draws of x_t at each timestep but the first.
        prior_precision: of the last layer's weights.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps or a range of SNR.

    Raises:
        InputError: fewer than two timesteps or probes.
    """

    name = "bayesdiff"

    def __init__(
        self,
        timesteps: Sequence[int] | None = None,
        probes: int = 10,
        prior_precision: float = 1.0,
        *,
        window: StepWindow | tuple[int, int] | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, least=2)
        self.timesteps = tuple(sorted(self.timesteps))
        if probes < 2:
            raise InputError(f"probes: {probes} must be at least 2")
        self.probes, self.prior_precision = probes, prior_precision
        self._laplace: LastLayerLaplace | None = None

    @property
    def nfe(self) -> int:
        return 2 * self.count - 1 + (self.count - 1) * self.probes

    def fit(self, denoiser: Denoiser, data: Tensor, *, seed: int = 0, **condition: Any) -> None:
        """The posterior of the last layer's weights from training data (n, ...)."""
        self._laplace = LastLayerLaplace(denoiser, data, prior_precision=self.prior_precision, seed=seed, **condition)

    def check(self, schedule: Schedule) -> None:
        super().check(schedule)
        if self._laplace is None:
            raise refuse_unfitted(self.name)

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        if self._laplace is None:
            raise refuse_unfitted(self.name)
        timesteps = self.at(denoiser.schedule)
        mean = encode(denoiser, x, timesteps, **condition)
        variance = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
        covariance = torch.zeros_like(variance)
        falling = timesteps[::-1]
        for t, u in zip(falling, (*falling[1:], CLEAN), strict=True):
            eps, eps_variance = self._laplace.eps_moments(mean, t, **condition)
            if t != falling[0]:  # there x_t is known
                eps, covariance = self._spread(denoiser, mean, eps, variance, t, noise, condition)
            a_t, s_t = denoiser.schedule.level(t)
            a_u, s_u = denoiser.schedule.level(u)
            k = a_u / a_t
            c = s_u - k * s_t
            mean = k * mean + c * eps
            variance = (k**2 * variance + 2 * k * c * covariance + c**2 * eps_variance).clamp(min=0)
        return as_scores(variance.flatten(1).sum(1), x)

    def _spread(
        self,
        denoiser: Denoiser,
        mean: Tensor,
        eps: Tensor,
        variance: Tensor,
        t: int,
        noise: Callable[[], Tensor],
        condition: dict[str, Any],
    ) -> tuple[Tensor, Tensor]:
        """Mean of eps_hat over draws of x_t and the covariance of the two, by coordinate; ``eps`` is at the mean."""
        std = variance.sqrt()
        change, products = torch.zeros_like(variance), torch.zeros_like(variance)
        for _ in range(self.probes):
            away = std * noise()
            # against the prediction at the mean, without which a few draws say little of the covariance
            moved = denoiser.eps((mean + away).to(mean.dtype), t, **condition) - eps
            change += moved
            products += away * moved
        return eps + (change / self.probes).to(mean.dtype), products / self.probes
