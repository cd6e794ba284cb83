r"""The deterministic path between data and noise: DDIM's steps (Song et al. 2021), in both directions.

.. math::
    x_u = \frac{s_u}{s_t}\, x_t + \Bigl(a_u - \frac{s_u}{s_t} a_t\Bigr) \hat x_0(x_t, t)
        = a_u \hat x_0 + s_u \hat\varepsilon

for u < t this is DDIM at eta = 0, for u > t its inversion: both are Euler steps of the probability-flow ODE
(Song et al. 2021b) in the coordinates x/a and s/a. Encoding starts at the first timestep with :math:`a_t x`, without
noise, since at the data itself (s = 0) there is no step to make.

Encoding is not the exact inverse of decoding. Between modes the map from noise to data is stretched, its inverse
contracts, and explicit steps that are long against that do not follow: such a sample may be encoded as if it lay in a
mode, and decode to there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.samplers import DDIM, Step
from intermode.schedules import CLEAN

__all__ = ["decode", "encode", "follow"]


@torch.no_grad()
def follow(denoiser: Denoiser, x: Tensor, path: Sequence[int], **condition: Any) -> Iterator[Step]:
    """The steps from ``x`` (B, ...) at ``path[0]`` to ``path[-1]``, one evaluation each.

    Args:
        path: timesteps in the order visited, rising or falling; the last one may be ``CLEAN``, and may repeat the one
            before it: then the prediction is made there and x stays.
    """
    rule = DDIM()
    x_t = x
    for index, (t, u) in enumerate(pairwise(path)):
        x0_hat = denoiser(x_t, t, **condition)
        c_x, c_0, _ = rule.transition(denoiser.schedule, t, u)
        x_next = torch.mul(x0_hat, c_0).add_(x_t, alpha=c_x)
        yield Step(index, t, x_t, x0_hat, x_next)
        x_t = x_next


def encode(denoiser: Denoiser, x: Tensor, timesteps: Sequence[int], **condition: Any) -> Tensor:
    """Finished samples x (B, ...) as the x_t at the last of the rising timesteps; one evaluation fewer than those."""
    x_t = denoiser.schedule.level(timesteps[0])[0] * x
    for step in follow(denoiser, x_t, timesteps, **condition):
        x_t = step.x_next
    return x_t


def decode(denoiser: Denoiser, x_t: Tensor, timesteps: Sequence[int], **condition: Any) -> Tensor:
    """The samples that x_t (B, ...) at the last of the rising timesteps leads to; one evaluation for each of those."""
    x = x_t
    for step in follow(denoiser, x_t, (*reversed(timesteps), CLEAN), **condition):
        x = step.x_next
    return x
