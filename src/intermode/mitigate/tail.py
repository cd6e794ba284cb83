r"""A stochastic tail: DDIM, but noise at a few steps below a level.

.. math::
    \eta(t) = 1 \text{ at the first z timesteps visited from } \tau \text{ on}, \quad 0 \text{ elsewhere}

(arXiv 2605.06831, whose code has z = 2, 5 or 8 steps of DDPM from τ = 5, 9, 15, 30 or 40 on, then DDIM again). DDIM's
step with η = 1 is DDPM's with the posterior variance (:mod:`intermode.samplers`).
"""

from __future__ import annotations

from dataclasses import dataclass

from intermode.errors import InputError
from intermode.samplers import DDIM, Sampler, Transition
from intermode.schedules import Schedule
from intermode.values import as_whole

__all__ = ["StochasticTail"]


@dataclass(frozen=True)
class StochasticTail(Sampler):
    """DDIM with some steps of DDPM from a level on.

    Args:
        level: τ, the noisiest timestep of the tail.
        length: z, steps of DDPM; None for all that are left, 0 for DDIM itself.
        steps: number of respaced steps; None visits every timestep.

    Raises:
        InputError: a level or length below 0.
    """

    level: int = 15
    length: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        as_whole("level", self.level, 0)
        if self.length is not None and not self.length >= 0:
            raise InputError(f"length: {self.length} must be at least 0")

    def transition(self, schedule: Schedule, t: int, u: int) -> Transition:
        tail = [each for each in self.timesteps(schedule) if each <= self.level][: self.length]
        return DDIM(1.0 if t in tail else 0.0).transition(schedule, t, u)
