r"""Bias: how far from the sample the mean prediction of its re-noisings lies.

.. math::
    B(x) = \Bigl\lVert \frac1n \sum_{k=1}^n \hat x_0(a_{t_k} x + s_{t_k} \varepsilon_k,\, t_k) - x \Bigr\rVert^2

The *residual*, the mean squared distance of the predictions from x, is the bias and d times their variance
(:mod:`intermode.detect.hal`, re-noised): :math:`R = B + d\,\mathrm{Hal}`, exactly, for the same re-noisings
(:func:`parts`). The variance says how much is open at t, whatever x is; the bias that the denoiser would rather have
another sample. Between two modes, where one prediction in two goes to either side, it is the residual that tells and
the bias is zero. Of finite n the expected bias is too large by 1/n of the variance. For one Gaussian N(μ, σ²I) in d
dimensions :math:`\mathbb E\,B = (s^2 / v)^2 \lVert x - \mu \rVert^2 + (a \sigma^2 s / v)^2 d / n`,
:math:`v = a^2 \sigma^2 + s^2`. Ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import AtTimesteps, StepWindow, as_scores
from intermode.values import as_whole

__all__ = ["Bias", "parts"]


@torch.no_grad()
def parts(
    denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], timesteps: Sequence[int], noises: int, **condition: Any
) -> tuple[Tensor, Tensor]:
    """(B,) residual and (B,) bias of samples (B, ...) by ``noises`` re-noisings, which go round the timesteps."""
    mean = torch.zeros_like(x, dtype=torch.float64)
    residual = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for k in range(noises):
        t = timesteps[k % len(timesteps)]
        off = (denoiser(denoiser.schedule.add_noise(x, noise(), t), t, **condition) - x).double()
        mean += off / noises
        residual += off.square().flatten(1).sum(1) / noises
    return residual, mean.square().flatten(1).sum(1)


class Bias(AtTimesteps):
    """Squared norm of the mean of x0_hat over re-noisings, less the sample.

    Args:
        timesteps: of the re-noisings; unless given 1, 2, 3.
        noises: re-noisings, one network evaluation each; the k-th goes to timestep k modulo their number.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps, a range of SNR, or the
            model's ``critical`` windows.

    Raises:
        InputError: no timesteps, one below 0, or less than one noise.
    """

    name = "bias"

    def __init__(
        self,
        timesteps: Sequence[int] | None = None,
        noises: int = 8,
        *,
        window: StepWindow | tuple[int, int] | str | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, default=(1, 2, 3))
        self.noises = as_whole("noises", noises, 1)

    @property
    def nfe(self) -> int:
        return self.noises

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        return as_scores(parts(denoiser, x, noise, self.at(denoiser.schedule), self.noises, **condition)[1], x)
