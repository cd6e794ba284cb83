r"""Samplers: the reverse chain :math:`p(x_u \mid x_t)` as a generator of steps.

Every sampler here moves from timestep t to the next smaller one u (finally to the clean data) by

.. math::
    x_u = c_x\, x_t + c_0\, \hat x_0(x_t, t) + \sigma z, \qquad z \sim \mathcal N(0, I)

and they differ in the three coefficients. With :math:`\alpha = a_t / a_u` and
:math:`\beta = s_t^2 - \alpha^2 s_u^2` (in DDPM's schedule: :math:`\beta_t`),

* **ancestral** (DDPM, Ho et al. 2020, eq. 7): :math:`c_x = \alpha s_u^2 / s_t^2`,
  :math:`c_0 = a_u \beta / s_t^2`, and :math:`\sigma^2 = \beta` ("fixed large") or the posterior variance
  :math:`\beta s_u^2 / s_t^2` ("fixed small");
* **DDIM** (Song et al. 2021, eq. 12): :math:`\sigma^2 = \eta^2 \beta s_u^2 / s_t^2`,
  :math:`c_x = \sqrt{s_u^2 - \sigma^2} / s_t`, :math:`c_0 = a_u - c_x a_t`.

The last step, to the clean data, adds no noise: :math:`x_{-1} = \hat x_0(x_0, 0)`.
Whoever consumes the generator decides what to keep; the trajectory is never stored. Another sampler is a subclass of
:class:`Sampler` with a ``transition`` of its own. A chain may begin at any noise level (``start``), and go up again
(:mod:`intermode.restart`): it is one or more *descents*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.schedules import CLEAN, Schedule

__all__ = ["DDIM", "Ancestral", "Sampler", "Step", "Transition", "noising"]


@dataclass(frozen=True)
class Step:
    """One reverse step of a batch.

    Attributes:
        index: its place in the trajectory, 0, 1, ... in the order of sampling.
        t: timestep of ``x_t``.
        x_t: (B, ...) before the step.
        x0_hat: (B, ...) the denoiser's prediction at (x_t, t), unclipped.
        x_next: (B, ...) after the step.
        steps: of the whole trajectory, where that is known.
        level: (a_t, s_t) of q(x_t | x_0), where that is known.
        restart: how many restarts came before. The re-noising that begins one has t = ``CLEAN`` and asks no network:
            there x_t and x0_hat are the sample that is noised, a finished one unless the chain goes up on its way.
    """

    index: int
    t: int
    x_t: Tensor
    x0_hat: Tensor
    x_next: Tensor
    steps: int | None = None
    level: tuple[float, float] | None = None
    restart: int = 0


class Transition(NamedTuple):
    """The coefficients of x_u = x * x_t + x0 * x0_hat + std * z."""

    x: float
    x0: float
    std: float


def noising(schedule: Schedule, t: int, u: int) -> Transition:
    """The coefficients of a step up, to more noise: q(x_u | x_t) for t < u."""
    (a_t, s_t), (a_u, s_u) = schedule.level(t), schedule.level(u)
    return Transition(a_u / a_t, 0.0, math.sqrt(max(s_u**2 - (a_u / a_t * s_t) ** 2, 0.0)))


class Sampler:
    """Base of all samplers: a subclass gives :meth:`transition`, and the reverse chain follows.

    >>> class Louder(Sampler):
    ...     def transition(self, schedule, t, u):
    ...         c_x, c_0, std = Ancestral().transition(schedule, t, u)
    ...         return c_x, c_0, 1.1 * std

    Attributes:
        steps: number of respaced steps; None visits every timestep.
    """

    steps: int | None = None

    def transition(self, schedule: Schedule, t: int, u: int) -> tuple[float, float, float]:
        """The coefficients (c_x, c_0, std) of the step from t to u (``CLEAN`` at the end)."""
        raise NotImplementedError  # the contract; every subclass defines it

    def timesteps(self, schedule: Schedule) -> tuple[int, ...]:
        """The timesteps visited, from the noisiest to the cleanest."""
        return schedule.respaced(self.steps)

    def timesteps_from(self, schedule: Schedule, start: int) -> tuple[int, ...]:
        """The timesteps visited by a chain that begins at ``start``, on the way or not: it, and those below it.

        Raises:
            InputError: a start outside 0..T - 1.
        """
        if not 0 <= start < len(schedule):
            raise InputError(f"start: {start} is outside 0..{len(schedule) - 1}, the timesteps")
        return start, *(t for t in self.timesteps(schedule) if t < start)

    def descents(self, schedule: Schedule) -> tuple[tuple[int, ...], ...]:
        """The timesteps of each way down: one, to the clean data, unless the sampler goes up again."""
        return (self.timesteps(schedule),)

    def levels(self, schedule: Schedule) -> tuple[int, ...]:
        """The levels visited one after the other before the last step, ``CLEAN`` where a restart begins."""
        return tuple(t for descent in self.descents(schedule) for t in (*descent, CLEAN))[:-1]

    def evaluations(self, schedule: Schedule) -> int:
        """Network evaluations for each sample."""
        return sum(map(len, self.descents(schedule)))

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
        """The steps from ``x_T`` (B, ...) to the clean sample, ``noise()`` giving each z.

        With ``start`` the chain begins at that timestep, to which ``x_T`` is noised: how a restart comes down.
        """
        schedule = denoiser.schedule
        visited = self.timesteps(schedule) if start is None else self.timesteps_from(schedule, start)
        x_t = x_T
        for index, (t, u) in enumerate(zip(visited, (*visited[1:], CLEAN), strict=True)):
            x0_hat = denoiser(x_t, t, **condition)
            c_x, c_0, std = self.transition(schedule, t, u)
            x_next = torch.mul(x0_hat, c_0).add_(x_t, alpha=c_x)
            if std > 0:
                x_next.add_(noise(), alpha=std)
            yield Step(index, t, x_t, x0_hat, x_next, len(visited), schedule.level(t))
            x_t = x_next

    def __repr__(self) -> str:
        """Of the settings alone: runs and their parts are recognised by it."""
        settings = {"steps": self.steps} | vars(self)
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in settings.items())})"


@dataclass(frozen=True)
class Ancestral(Sampler):
    """DDPM's ancestral sampling.

    Args:
        variance: ``large`` (beta_t, the paper's choice for Gaussians) or ``small`` (the posterior variance).
        steps: number of respaced steps; None visits every timestep.

    Raises:
        InputError: an unknown variance.
    """

    variance: Literal["large", "small"] = "large"
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.variance not in ("large", "small"):
            raise InputError(f"variance: unknown {self.variance!r}; choose large or small")

    def transition(self, schedule: Schedule, t: int, u: int) -> Transition:
        a_t, s_t = schedule.level(t)
        a_u, s_u = schedule.level(u)
        alpha = a_t / a_u
        beta = s_t**2 - (alpha * s_u) ** 2
        variance = beta if self.variance == "large" else beta * s_u**2 / s_t**2
        std = 0.0 if u == CLEAN else math.sqrt(variance)
        return Transition(alpha * s_u**2 / s_t**2, a_u * beta / s_t**2, std)


@dataclass(frozen=True)
class DDIM(Sampler):
    """DDIM, deterministic at ``eta`` = 0 and with the posterior variance of DDPM at ``eta`` = 1.

    Args:
        eta: 0..1.
        steps: number of respaced steps; None visits every timestep.

    Raises:
        InputError: eta outside 0..1.
    """

    eta: float = 0.0
    steps: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta: {self.eta} is outside 0..1")

    def transition(self, schedule: Schedule, t: int, u: int) -> Transition:
        a_t, s_t = schedule.level(t)
        a_u, s_u = schedule.level(u)
        beta = s_t**2 - (a_t / a_u * s_u) ** 2
        variance = self.eta**2 * beta * s_u**2 / s_t**2
        c_x = math.sqrt(max(s_u**2 - variance, 0.0)) / s_t
        return Transition(c_x, a_u - c_x * a_t, math.sqrt(variance))
