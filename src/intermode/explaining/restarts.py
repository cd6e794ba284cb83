r"""What restarts make of a sample: noised to a low level by :math:`q(x_k \mid x)` and denoised again, many times.

The p-th restart uses the random numbers of (seed, sample index, p), which are those of the p-th try of
:func:`intermode.repair`. An outcome is good if the target says so, where it is known; else if its score passes the
threshold that a repair sets: that which the 98 % of the samples with the lowest scores have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.noise import NoiseStream
from intermode.progress import Progress
from intermode.samplers import Sampler
from intermode.sampling import chunk_for

__all__ = ["Restarts", "restarted", "told_of"]


@dataclass(frozen=True)
class Restarts:
    """What became of a sample.

    Attributes:
        t: where restarts begin.
        x: (R, *shape) the outcomes.
        good: (R,) bool.
        where: how many end where, in words; empty where nobody knows.
        limit: the score that an outcome must not exceed, and its name; None where a target decides.
        was_good: whether the sample itself was.
    """

    t: int
    x: np.ndarray
    good: np.ndarray
    where: dict[str, int]
    limit: tuple[str, float] | None
    was_good: bool


def told_of(condition: dict[str, Any], rows: np.ndarray, device: torch.device) -> dict[str, Any]:
    """What a denoiser is told of some samples."""
    index = torch.from_numpy(rows)
    return {k: v[index].to(device) if isinstance(v, Tensor) else v for k, v in condition.items()}


@torch.no_grad()
def restarted(
    denoiser: Denoiser,
    sampler: Sampler,
    x: Tensor,
    index: int,
    t: int,
    count: int,
    condition: dict[str, Any],
    seed: int,
    progress: Progress,
) -> Tensor:
    """(count, *shape) outcomes of restarting a sample x (1, *shape) of that index."""
    shape, rows, outcomes = tuple(x.shape[1:]), np.array([index]), []
    size = chunk_for(shape)
    steps = len(sampler.timesteps_from(denoiser.schedule, t))
    with progress.task("restarting", count * steps, 0, "evaluations") as task:
        for first in range(0, count, size):
            numbers = range(first + 1, min(first + size, count) + 1)
            streams = [
                NoiseStream(seed, 0, 1, shape, purpose="restart", device=denoiser.device, rows=rows, restart=number)
                for number in numbers
            ]

            def noise(streams: list[NoiseStream] = streams) -> Tensor:
                return torch.cat([stream() for stream in streams])

            whole = x.expand(len(streams), *shape)
            told = {
                k: v.expand(len(streams), *v.shape[1:]) if isinstance(v, Tensor) else v for k, v in condition.items()
            }
            x_0 = x_t = denoiser.schedule.add_noise(whole, noise(), t)
            for step in sampler(denoiser, x_t, noise, start=t, **told):
                x_0 = step.x_next
                task.advance(len(streams))
            outcomes.append(x_0)
    return torch.cat(outcomes)
