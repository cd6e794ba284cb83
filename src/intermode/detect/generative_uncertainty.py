r"""Generative uncertainty: what other weights, as good on the training data, would have made of the same noise.

.. math::
    U(x) = \frac12 \sum_{i=1}^F \log\Bigl(2\pi e\,
        \bigl(\mathrm{Var}_m[f_i(G_{\theta_m}(x_\tau))] + \sigma^2\bigr)\Bigr), \qquad
     \theta_0 = \theta_{\mathrm{trained}}, \quad \theta_1, \dots, \theta_M \sim p(\theta \mid \text{data})

the entropy of a Gaussian fitted to the samples' features f, coordinate by coordinate (Jazbec et al. 2025, arXiv
2502.20946, and their released code: M = 5 and the trained weights, σ² = 1e-3, population variance, features of CLIP,
50 steps of DDIM, and a last layer drawn from :mod:`intermode.detect.laplace`, there with the diagonal of P alone).

There the noise is that which the sampler began with; here it is found from the finished sample by inverting DDIM, so
that any sample can be scored. The features are given; unless they are, the sample itself. M + 2 chains, less one
evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser, NetworkDenoiser
from intermode.detect import AtTimesteps, Features, StepWindow, as_scores, flat, refuse_unfitted
from intermode.detect.laplace import LastLayerLaplace
from intermode.detect.variance import RunningVariance
from intermode.errors import InputError
from intermode.ode import decode, encode
from intermode.schedules import Schedule

__all__ = ["GenerativeUncertainty"]


class GenerativeUncertainty(AtTimesteps):
    """Entropy in nats of the features over draws of the last layer; to be fitted.

    Args:
        timesteps: of the chains, rising; the noise is that of the last one.
        draws: M, the same weights for all samples.
        features: extractor of the space in which samples are compared.
        floor: σ², in squared units of the features.
        prior_precision: of the last layer's weights.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps or a range of SNR.

    Raises:
        InputError: fewer than two timesteps, no draws, or a floor that is not positive.
    """

    name = "generative-uncertainty"

    def __init__(
        self,
        timesteps: Sequence[int] | None = None,
        draws: int = 5,
        features: Features = flat,
        floor: float = 1e-3,
        prior_precision: float = 1.0,
        *,
        window: StepWindow | tuple[int, int] | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, least=2)
        self.timesteps = tuple(sorted(self.timesteps))
        if draws < 1:
            raise InputError(f"draws: {draws} must be at least 1")
        if not floor > 0:
            raise InputError(f"floor: {floor} must be > 0")
        self.draws, self.features, self.floor, self.prior_precision = draws, features, floor, prior_precision
        self._drawn: list[NetworkDenoiser] = []

    @property
    def nfe(self) -> int:
        return self.count * (2 + self.draws) - 1

    def fit(self, denoiser: Denoiser, data: Tensor, *, seed: int = 0, **condition: Any) -> None:
        """The posterior of the last layer's weights from training data (n, ...), and the draws from it."""
        laplace = LastLayerLaplace(denoiser, data, prior_precision=self.prior_precision, seed=seed, **condition)
        self._drawn = [laplace.draw(m, seed) for m in range(self.draws)]

    def check(self, schedule: Schedule) -> None:
        super().check(schedule)
        if not self._drawn:
            raise refuse_unfitted(self.name)

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        timesteps = self.at(denoiser.schedule)
        x_tau = encode(denoiser, x, timesteps, **condition)
        variance = RunningVariance()
        for drawn in (denoiser, *self._drawn):
            variance.add(self.features(decode(drawn, x_tau, timesteps, **condition)))
        return as_scores((2 * torch.pi * torch.e * (variance.value + self.floor)).log().sum(1) / 2, x)
