r"""Jumps: up again inside the chain, and down once more.

From :math:`x_l`, where the chain has arrived on its way down, back up to a noisier level h by the forward process,

.. math::
    x_h \sim q(x_h \mid x_l) = \mathcal N\Bigl(\frac{a_h}{a_l} x_l,\; \bigl(s_h^2 - a_h^2 s_l^2 / a_l^2\bigr) I\Bigr),

and down by the sampler's own steps; each such jump some times. That is **Restart sampling** (Xu et al. 2023, arXiv
2306.14878), whose chain is deterministic (``DDIM()``) and whose few jumps are wide; and **RePaint**'s time travel
(Lugmayr et al. 2022, arXiv 2201.09865), ancestral, with many short ones: :meth:`Jumps.repaint`. Restarts of finished
samples are :mod:`intermode.restart`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.restart import Restart
from intermode.samplers import Ancestral, Sampler, Step, noising
from intermode.schedules import CLEAN, Schedule

__all__ = ["Jump", "Jumps"]


class Jump(NamedTuple):
    """From the level ``low`` up to ``high``, both timesteps, so many times."""

    low: int
    high: int
    times: int = 1


@dataclass(frozen=True)
class Jumps(Sampler):
    """A sampler that goes up again at some levels.

    A step up is a step too (``t`` = ``CLEAN``), which asks no network. A descent of its own follows each, so that no
    detector's window mixes them.

    Args:
        jumps: at most one at a level.
        sampler: the chain, and how a jump comes down; it must visit both ends of every jump.

    Raises:
        InputError: two jumps at one level, one that does not go up or less than no times, or a sampler that goes up.
    """

    jumps: tuple[Jump, ...]
    sampler: Sampler = field(default_factory=Ancestral)

    def __post_init__(self) -> None:
        object.__setattr__(self, "jumps", tuple(Jump(*jump) for jump in self.jumps))
        for jump in self.jumps:
            if not 0 <= jump.low < jump.high or jump.times < 0:
                raise InputError(f"jumps: {tuple(jump)} must go up from a timestep, 0 times or more")
        if len({jump.low for jump in self.jumps}) < len(self.jumps):
            raise InputError("jumps: two of them begin at one level; give one with more times")
        if isinstance(self.sampler, Restart | Jumps) or not isinstance(self.sampler, Sampler):
            raise InputError(f"sampler: {self.sampler!r} cannot jump; give Ancestral(), DDIM() or one of your own")

    @classmethod
    def repaint(cls, length: int = 10, samples: int = 10, below: int = 250, sampler: Sampler | None = None) -> Jumps:
        """RePaint's: every ``length`` timesteps as far up again, so that each is passed ``samples`` times.

        Args:
            length: of a jump, RePaint's j.
            samples: how often each stretch is passed, RePaint's r; 1 is the sampler itself.
            below: no jump goes up to it or beyond; RePaint jumps along its whole chain, of 250 steps.
            sampler: ``Ancestral()`` unless given.
        """
        lows = range(0, below - length, length)
        return cls(tuple(Jump(low, low + length, samples - 1) for low in lows), sampler or Ancestral())

    def transition(self, schedule: Schedule, t: int, u: int) -> tuple[float, float, float]:
        """The sampler's own."""
        return self.sampler.transition(schedule, t, u)

    def timesteps(self, schedule: Schedule) -> tuple[int, ...]:
        """Those of the chain without jumps."""
        return self.sampler.timesteps(schedule)

    def descents(self, schedule: Schedule) -> tuple[tuple[int, ...], ...]:
        return tuple(visited for visited, _ in self._descents(schedule, self.timesteps(schedule)))

    def levels(self, schedule: Schedule) -> tuple[int, ...]:
        return tuple(t for part in self._descents(schedule, self.timesteps(schedule)) for t in (*part[0], part[1]))[:-1]

    def _descents(self, schedule: Schedule, visited: tuple[int, ...]) -> list[tuple[tuple[int, ...], int]]:
        """The timesteps of each descent, and the level to which it leads."""
        left = {jump.low: jump.times for jump in self.jumps if jump.times and jump.high <= visited[0]}
        up = {jump.low: jump.high for jump in self.jumps}
        if missing := [t for low in left for t in (low, up[low]) if t not in visited]:
            raise InputError(f"jumps: {missing[0]} is not among the timesteps that the sampler visits")
        found, begin, place = [], 0, 0
        while place < len(visited):
            place += 1
            u = visited[place] if place < len(visited) else CLEAN
            if left.get(u):
                left[u] -= 1
                found.append((visited[begin:place], u))
                begin = place = visited.index(up[u])
        return [*found, (visited[begin:], CLEAN)]

    @torch.no_grad()
    def __call__(
        self,
        denoiser: Denoiser,
        x_T: Tensor,
        noise: Callable[[], Tensor],
        *,
        start: int | None = None,
        **condition: Any,
    ) -> Iterator[Step]:
        """The steps; a chain that begins at ``start`` leaves out the jumps beyond it."""
        schedule, x, place, here = denoiser.schedule, x_T, 0, CLEAN
        visited = self.timesteps(schedule) if start is None else self.sampler.timesteps_from(schedule, start)
        for restart, (part, low) in enumerate(self._descents(schedule, visited)):
            if restart:
                c_x, _, std = noising(schedule, here, part[0])
                x_h = torch.mul(x, c_x).add_(noise(), alpha=std)
                yield Step(place, CLEAN, x, x, x_h, len(visited), schedule.level(here), restart)
                x = x_h
            for t, u in zip(part, (*part[1:], low), strict=True):
                x0_hat = denoiser(x, t, **condition)
                c_x, c_0, std = self.transition(schedule, t, u)
                x_next = torch.mul(x0_hat, c_0).add_(x, alpha=c_x)
                if std > 0:
                    x_next.add_(noise(), alpha=std)
                place = visited.index(t)
                yield Step(place, t, x, x0_hat, x_next, len(visited), schedule.level(t), restart)
                x = x_next
            here = low
