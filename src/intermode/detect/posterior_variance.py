r"""Posterior variance: how uncertain the data behind a sample is, from the denoiser's Jacobian.

.. math::
    \mathrm{Cov}[x_0 \mid x_t] = \frac{s_t^2}{a_t} \frac{\partial \hat x_0}{\partial x_t}(x_t, t)

Tweedie's formula of second order (Efron 2011; for denoisers Meng et al. 2021), exact where :math:`\hat x_0` is the
posterior mean. Between two modes the posterior has both in it and its variance is large. The score is the trace or the
largest eigenvalue of that covariance at :math:`x_t = a_t x`, the sample without noise, mean over timesteps.

With as many probes as dimensions, or more, the Jacobian is computed whole, one product :math:`J^\top v` for each unit
vector v. With fewer, the trace is Hutchinson's estimate :math:`\frac1n \sum_k v_k^\top J v_k` with random signs v; its
variance is :math:`\frac2n \sum_{i \ne j} J_{ij}^2` for a symmetric J, and the eigenvalue is the Rayleigh quotient after
that many products of the power iteration, which approaches it from below. A learned denoiser's Jacobian is not quite
symmetric; the eigenvalue is that of its symmetric part where it is computed whole. The products are taken backwards:
forward-mode derivatives are missing from fused attention and from group normalisation in some memory layouts.

The identity is old, its use as a score of hallucinations is ours; EigenScore (Shoushtari et al. 2025, arXiv
2510.07206) uses leading eigenvalues over many timesteps to find out-of-distribution data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import BACKWARD_NFE, AtTimesteps, StepWindow, as_scores
from intermode.errors import InputError

__all__ = ["PosteriorVariance"]


class PosteriorVariance(AtTimesteps):
    """Trace or largest eigenvalue of Cov[x_0 | x_t = a_t x], in squared units of the data.

    Args:
        statistic: ``trace`` or ``largest``.
        timesteps: where s_t is about the distance of a mode's edge to the next one's: 3, 5, 7, 10
            unless given.
        probes: products with the Jacobian at each timestep; exact from the number of dimensions on.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps or a range of SNR.

    Raises:
        InputError: an unknown statistic, no timesteps, one below 0, or no probes.
    """

    def __init__(
        self,
        statistic: Literal["trace", "largest"] = "trace",
        timesteps: Sequence[int] | None = None,
        probes: int = 8,
        *,
        window: StepWindow | tuple[int, int] | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, default=(3, 5, 7, 10))
        if statistic not in ("trace", "largest"):
            raise InputError(f"statistic: unknown {statistic!r}; choose trace or largest")
        if probes < 1:
            raise InputError(f"probes: {probes} must be at least 1")
        self.statistic, self.probes = statistic, probes
        self.name = "posterior-variance" if statistic == "trace" else "posterior-variance-largest"

    @property
    def nfe(self) -> int:
        return (1 + BACKWARD_NFE * self.probes) * self.count

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for t in self.at(denoiser.schedule):
            a, s = denoiser.schedule.level(t)
            product = vector_jacobian(denoiser, a * x, t, condition)
            if x[0].numel() <= self.probes:
                value = _exact(product, x, self.statistic)
            elif self.statistic == "trace":
                value = _hutchinson(product, noise, self.probes)
            else:
                value = _power_iteration(product, noise, self.probes)
            total += s**2 / a * value
        return as_scores(total / self.count, x)


def vector_jacobian(denoiser: Denoiser, x_t: Tensor, t: int, condition: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """v (B, ...) to the transposed Jacobian of x0_hat at (x_t, t) times v, of every sample by itself."""
    with torch.enable_grad():
        z = x_t.detach().requires_grad_()
        x0_hat = denoiser(z, t, **condition)
    return lambda v: torch.autograd.grad(x0_hat, z, v.to(x0_hat.dtype), retain_graph=True)[0]


def _dot(v: Tensor, w: Tensor) -> Tensor:
    return (v.to(torch.float64) * w.to(torch.float64)).flatten(1).sum(1)


def _exact(product: Callable[[Tensor], Tensor], x: Tensor, statistic: str) -> Tensor:
    size = x[0].numel()
    unit = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, *x.shape[1:])
    rows = [product(direction.expand_as(x)).to(torch.float64).flatten(1) for direction in unit]
    jacobian = torch.stack(rows, dim=1)
    if statistic == "trace":
        return jacobian.diagonal(dim1=1, dim2=2).sum(1)
    finite = torch.isfinite(jacobian).flatten(1).all(1)
    # the decomposition refuses what is not finite: those rows are left out and marked
    symmetric = torch.where(finite[:, None, None], (jacobian + jacobian.mT) / 2, 0.0)
    return torch.where(finite, torch.linalg.eigvalsh(symmetric)[:, -1], torch.nan)


def _hutchinson(product: Callable[[Tensor], Tensor], noise: Callable[[], Tensor], probes: int) -> Tensor:
    signs = (torch.where(noise() < 0, -1.0, 1.0) for _ in range(probes))
    return torch.stack([_dot(v, product(v)) for v in signs]).mean(0)


def _power_iteration(product: Callable[[Tensor], Tensor], noise: Callable[[], Tensor], probes: int) -> Tensor:
    w, value = noise(), torch.empty(0)
    for _ in range(probes):
        v = w / w.flatten(1).norm(dim=1).clamp(min=torch.finfo(w.dtype).tiny).reshape(-1, *[1] * (w.ndim - 1))
        w = product(v)
        value = _dot(v, w)
    return value
