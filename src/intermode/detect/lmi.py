r"""Local map instability: how far a sample moves when the noise that it came from is moved a little.

.. math::
    I(x) = \frac1d \sum_{i=1}^d \mathrm{Var}_m\bigl[G_i(x_\tau + \rho\, \varepsilon_m)\bigr], \qquad x_\tau = G^{-1}(x)

the manifold-instability filter of Sobieski et al. 2026 (arXiv 2605.05026), with G the whole reverse map. Where the map
is stretched, its samples are thin: in one dimension the derivative of the exact map is
:math:`p_\tau(x_\tau) / p_0(x)`, and the score is ρ² times its square.

Known of the original only second-hand: neither ρ nor the number of draws. There the noise is that which the sampler
began with; here it is found from the finished sample by inverting DDIM (:mod:`intermode.ode`), so that any sample can
be scored, and the map begins at the last of the timesteps given. (M + 1) chains, less one evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import AtTimesteps, StepWindow, as_scores
from intermode.detect.variance import RunningVariance
from intermode.errors import InputError
from intermode.ode import decode, encode

__all__ = ["LMI"]


class LMI(AtTimesteps):
    """Population variance of the samples that a little cloud of noise leads to, in squared units of the data.

    Args:
        timesteps: of the chains, rising; the cloud is at the last one.
        draws: M, chains of the cloud.
        radius: ρ, standard deviation of the cloud.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps or a range of SNR.

    Raises:
        InputError: fewer than two timesteps or draws, or a radius that is not positive.
    """

    name = "lmi"

    def __init__(
        self,
        timesteps: Sequence[int] | None = None,
        draws: int = 4,
        radius: float = 0.01,
        *,
        window: StepWindow | tuple[int, int] | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, least=2)
        self.timesteps = tuple(sorted(self.timesteps))
        if draws < 2:
            raise InputError(f"draws: {draws} must be at least 2")
        if not radius > 0:
            raise InputError(f"radius: {radius} must be > 0")
        self.draws, self.radius = draws, radius

    @property
    def nfe(self) -> int:
        return self.count * (1 + self.draws) - 1

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        timesteps = self.at(denoiser.schedule)
        x_tau = encode(denoiser, x, timesteps, **condition)
        variance = RunningVariance()
        for _ in range(self.draws):
            variance.add(decode(denoiser, x_tau + self.radius * noise(), timesteps, **condition))
        return as_scores(variance.per_sample(), x)
