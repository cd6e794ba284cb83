r"""Late restarts: a finished sample is noised a little and denoised again.

Mass between modes is made in the last steps of the chain, so those alone need to be repeated. One *restart* draws

.. math::
    x_k \sim q(x_k \mid x_0) = \mathcal N(a_k x_0,\; s_k^2 I)

and comes down from the level k by the sampler's own steps: k + 1 network evaluations if it visits every timestep. The
true score's law is left as it is, since :math:`x_0 \sim p` gives :math:`x_k \sim p_k`; of a learned one each pass
carries what lies between two modes into one of them. What lies far beyond all modes is not brought back by so little
noise. Relatives: Restart sampling (Xu et al. 2023, arXiv 2306.14878), which goes up and down inside the chain, and
RePaint's jumps (Lugmayr et al. 2022, arXiv 2201.09865).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect.window import StepWindow, places
from intermode.errors import InputError
from intermode.samplers import Ancestral, Sampler, Step
from intermode.schedules import CLEAN, Schedule
from intermode.values import as_whole

__all__ = ["Level", "Restart", "check_level", "timestep_of"]

Level = int | float | StepWindow
"""A noise level: a timestep; a share of T, in (0, 1); or a window, ``SNR(low, high)`` say: its noisiest timestep."""


def check_level(level: Any) -> None:
    """Raise InputError for what is a level in no schedule."""
    if isinstance(level, Integral) and not isinstance(level, bool):
        if int(level) < 1:
            raise InputError(f"level: {level} is no noise to restart from; must be a timestep, at least 1")
    elif isinstance(level, Real) and not isinstance(level, bool):
        if not 0 < float(level) < 1:
            raise InputError(f"level: {level} is no share of T, which lies strictly between 0 and 1")
    elif not hasattr(level, "holds"):
        raise InputError(f"level: {level!r} is none; give a timestep, a share of T, or SNR(low, high)")


def timestep_of(level: Level, schedule: Schedule) -> int:
    """The timestep of a level, 1..T - 1.

    Raises:
        InputError: no level, or one that this schedule does not have.
    """
    check_level(level)
    given: Any = level
    last = len(schedule) - 1
    if isinstance(given, Integral):
        t = int(given)
    elif isinstance(given, Real):
        t = min(round(float(given) * len(schedule)), last)
    else:
        t = max((place.t for place in places(schedule, range(last, -1, -1)) if given.holds(place)), default=0)
    if not 1 <= t <= last:
        raise InputError(f"level: {level} is outside the timesteps 1..{last} that a restart can begin at")
    return t


@dataclass(frozen=True)
class Restart(Sampler):
    """A sampler whose finished samples are restarted from a low noise level.

    A re-noising is a step too (``t`` = ``CLEAN``), which asks no network. Random numbers of the p-th restart belong to
    (seed, sample index, p) where ``noise`` is a :class:`intermode.noise.NoiseStream`; of another source they follow.

    Args:
        sampler: the chain, and how a restart comes down.
        level: where restarts begin; see :data:`Level`. Unless given t = 3, for samples of a few numbers under the
            paper's schedule: lower levels narrow the modes more, higher ones make mass between them anew.
        passes: restarts, one after the other; 0 is the sampler itself. Unless given as many as fit in 2 % of 1000
            steps.

    Raises:
        InputError: a level of no noise, fewer than 0 passes, or a sampler that restarts already.
    """

    sampler: Sampler = field(default_factory=Ancestral)
    level: Level = 3
    passes: int = 5

    def __post_init__(self) -> None:
        check_level(self.level)
        as_whole("passes", self.passes, 0)
        if isinstance(self.sampler, Restart) or not isinstance(self.sampler, Sampler):
            raise InputError(
                f"sampler: {self.sampler!r} cannot be restarted; give Ancestral(), DDIM() or one of your own"
            )

    def transition(self, schedule: Schedule, t: int, u: int) -> tuple[float, float, float]:
        """The sampler's own."""
        return self.sampler.transition(schedule, t, u)

    def timesteps(self, schedule: Schedule) -> tuple[int, ...]:
        """Those of the chain before all restarts."""
        return self.sampler.timesteps(schedule)

    def descents(self, schedule: Schedule) -> tuple[tuple[int, ...], ...]:
        again = self.sampler.timesteps_from(schedule, timestep_of(self.level, schedule))
        return (*self.sampler.descents(schedule), *[again] * self.passes)

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
        x, schedule = x_T, denoiser.schedule
        k, whole = timestep_of(self.level, schedule), len(self.timesteps(schedule))
        for step in self.sampler(denoiser, x_T, noise, start=start, **condition):
            x = step.x_next
            yield step
        for restart in range(1, self.passes + 1):
            own = noise.restarted(restart) if hasattr(noise, "restarted") else noise
            x_k = schedule.add_noise(x, own(), k)
            yield Step(whole, CLEAN, x, x, x_k, whole, schedule.level(CLEAN), restart)
            for step in self.sampler(denoiser, x_k, own, start=k, **condition):
                x, skipped = step.x_next, whole - (step.steps or 0)
                yield replace(step, index=skipped + step.index, steps=whole, restart=restart)
