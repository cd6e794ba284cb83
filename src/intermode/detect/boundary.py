r"""Boundary: how fast the direction of the score turns around a noised sample.

.. math::
    u(x, t) = \frac{s(x, t)}{\lVert s(x, t) \rVert}, \qquad
    C^2 = s_t^2 \, \mathbb E_v \frac{\lVert u(x_t + h v, t) - u(x_t, t) \rVert^2}{h^2}
    \;\xrightarrow{h \to 0}\; s_t^2 \Bigl\lVert \frac{\partial u}{\partial x} \Bigr\rVert_F^2, \qquad
    v \sim \mathcal N(0, I)

the idea of the *Critical Boundary Detector* (Sakamoto & Sakamoto 2026, arXiv 2606.13191): where the nearest point of
the data is not unique, on the boundary between what belongs to one mode and to another, the score's direction jumps.
There it tells when a trajectory commits itself; here it is asked of a finished sample, noised anew to each timestep:
one that lies on a boundary leaves it by either side.

Known of the original only second-hand: the instability of the score's direction by its abstract; that it is the norm of
its derivative by others who built on it; neither the length h of the step nor how it is averaged. Here h is a multiple
of s_t, the score is the mean of C over timesteps, and :math:`s_t` gives it no unit. Around N(0, σ²I) in d dimensions
:math:`C = s_t \sqrt{d - 1} / \lVert x_t \rVert`; in one dimension a direction is a sign, and C counts how many probes
find another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import AtTimesteps, StepWindow, as_scores
from intermode.detect.curvature import unit
from intermode.errors import InputError
from intermode.values import as_whole

__all__ = ["Boundary"]


class Boundary(AtTimesteps):
    """Change of the score's direction over short steps in random directions, without unit.

    Args:
        timesteps: to which samples are noised; 3, 5, 7, 10 unless given.
        probes: directions at each of them, one network evaluation each.
        radius: length of a step in each dimension, in units of s_t.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps, a range of SNR, or the
            model's ``critical`` windows.

    Raises:
        InputError: no timesteps, one below 0, no probes, or a radius that is not positive.
    """

    name = "boundary"

    def __init__(
        self,
        timesteps: Sequence[int] | None = None,
        probes: int = 2,
        radius: float = 0.1,
        *,
        window: StepWindow | tuple[int, int] | str | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, default=(3, 5, 7, 10))
        self.probes = as_whole("probes", probes, 1)
        if not radius > 0:
            raise InputError(f"radius: {radius} must be > 0 (in units of the noise level)")
        self.radius = radius

    @property
    def nfe(self) -> int:
        return (1 + self.probes) * self.count

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for t in self.at(denoiser.schedule):
            _, s = denoiser.schedule.level(t)
            x_t = denoiser.schedule.add_noise(x, noise(), t)
            # the predicted noise is the score up to its sign and length
            here = unit(denoiser.eps(x_t, t, **condition))
            turned = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            for _ in range(self.probes):
                there = unit(denoiser.eps(x_t + self.radius * s * noise(), t, **condition))
                turned += (there - here).double().square().flatten(1).sum(1)
            total += (turned / self.probes).sqrt() / self.radius
        return as_scores(total / self.count, x)
