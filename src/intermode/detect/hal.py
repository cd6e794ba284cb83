r"""Hal: the variance of :math:`\hat x_0` over a window of timesteps (Aithal et al. 2024, eq. 4).

.. math::
    \mathrm{Hal}(x) = \frac1d \sum_{i=1}^d \frac1{|W|} \sum_{t \in W}
        \bigl(\hat x_{0,i}^{(t)} - \overline{\hat x_{0,i}}\bigr)^2

the population variance over the window W, per dimension, then the mean over dimensions. Two ways to get the
predictions: along the trajectory that made the sample (:class:`Hal`, section 5, no extra network
evaluation), or by noising the finished sample to each timestep anew (:class:`HalRenoise`, A.3, :math:`|W|`
evaluations).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import AtTimesteps
from intermode.detect.variance import RunningVariance
from intermode.detect.window import Levels, StepWindow, Window, as_window
from intermode.errors import InputError
from intermode.samplers import Step

__all__ = ["Hal", "HalRenoise"]


class Hal:
    """Hal along the trajectory; costs no network evaluation.

    Args:
        low, high: the window of timesteps, both ends included. The paper: 0..15 for 1-D Gaussians, 0..8 for
            the 2-D grid, 700..850 for Simple Shapes.
        window: instead of ``low`` and ``high``: a pair of timesteps, another kind of window, or ``critical``.
        name: of the score, where several windows are watched at once.
    """

    nfe = 0

    def __init__(
        self,
        low: int = 0,
        high: int = 15,
        *,
        window: StepWindow | tuple[int, int] | str | None = None,
        name: str = "hal",
    ) -> None:
        self.window = Window(low, high) if window is None else as_window(window)
        self.name = name
        self._shape: tuple[int, ...] = ()
        self._variance = RunningVariance()

    @property
    def description(self) -> str:
        return f"hal {self.window}"

    def check(self, schedule: Levels, timesteps: Sequence[int]) -> None:
        self.window.check(schedule, timesteps)

    def start(self, shape: Sequence[int]) -> None:
        self._shape = tuple(shape)
        self._variance = RunningVariance()

    def update(self, step: Step) -> None:
        if self.window.holds(step):
            if tuple(step.x0_hat.shape) != self._shape:
                raise InputError(f"step: x0_hat has shape {tuple(step.x0_hat.shape)}, the batch {self._shape}")
            self._variance.add(step.x0_hat)

    def score(self) -> Tensor:
        if self._variance.count < 2:
            fell = "only one step" if self._variance.count else "no step"
            raise InputError(f"window: {fell} fell in {self.window}; a variance needs at least 2")
        return self._variance.per_sample()


class HalRenoise(AtTimesteps):
    """Hal of a finished sample, noised anew to each of ``count`` timesteps spread evenly over the window.

    Args:
        low, high: the window, both ends included (the paper for MNIST: 100..150).
        count: timesteps in it, one network evaluation each (the paper: 10, the default where the window has as many).
        window: instead of ``low`` and ``high``: a pair of timesteps, another kind of window, or ``critical``.
        name: of the score; ``hal`` where no trajectory can be meant.

    Raises:
        InputError: fewer than two timesteps, or more than the window has.
    """

    def __init__(
        self,
        low: int = 0,
        high: int = 15,
        count: int | None = None,
        *,
        window: StepWindow | tuple[int, int] | str | None = None,
        name: str = "hal-renoise",
    ) -> None:
        super().__init__(None, Window(low, high) if window is None else window, count, least=2)
        self.name = name

    @property
    def nfe(self) -> int:
        return self.count

    @property
    def description(self) -> str:
        listed = [f"timesteps {' '.join(map(str, self.timesteps))}"] if self.timesteps else []
        again = ["of finished samples noised again"] if self.name == "hal" else []  # its own name says it
        return ", ".join([*again, *self.within, *listed])

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        variance = RunningVariance()
        for t in self.at(denoiser.schedule):
            variance.add(denoiser(denoiser.schedule.add_noise(x, noise(), t), t, **condition))
        return variance.per_sample()
